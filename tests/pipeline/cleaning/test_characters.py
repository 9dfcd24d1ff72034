"""Characters: line ends, Unicode forms, invisible characters, mojibake, blank lines and length."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning.characters import STEPS, ControlCharacters, Length, LineEnds, Mojibake, Trim, Unicode
from pipeline.cleaning.step import DocumentStep
from pipeline.errors import ConfigError, UnavailableError

STRANGE = "ab \t\n\r\v\f\x00\x1b\x7f\x85\x9f\u00ad\u200b\u200c\u200d\u2028\u2029\u202e\u2066\ufeff\uffff"
TEXT = st.text(st.sampled_from(STRANGE + "é\u0301ﬁ²Å가각"), max_size=40) | st.text(max_size=40)


def clean(step: DocumentStep, text: str) -> str:
    outcome = step.open()(text)
    assert outcome.reason == ""
    return outcome.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\r\nb\rc\n", "a\nb\nc\n"), ("\r\r\n\n", "\n\n\n"), ("a\vb\fc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf")],
)
def test_every_line_end_becomes_a_line_feed(text: str, expected: str) -> None:
    assert clean(LineEnds(unicode=True), text) == expected


def test_only_carriage_returns_count_as_line_ends_when_unicodes_are_left_alone() -> None:
    outcome = LineEnds().open()("a\r\nb\rc\u2028d\f")
    assert outcome.text == "a\nb\nc\u2028d\f"
    assert outcome.counts == {"line ends": 2}


@given(TEXT)
def test_cleaning_line_ends_loses_no_line_and_no_other_character(text: str) -> None:
    breaks = str.maketrans(dict.fromkeys("\n\r\v\f\x85\u2028\u2029"))
    outcome = LineEnds(unicode=True).open()(text)
    assert outcome.text.translate(breaks) == text.translate(breaks)
    assert outcome.text.count("\n") == len(text) - len(text.translate(breaks)) - text.count("\r\n")


@pytest.mark.parametrize(
    ("form", "expected"), [("NFC", "éﬁ²"), ("NFD", "e\u0301ﬁ²"), ("NFKC", "éfi2"), ("NFKD", "e\u0301fi2")]
)
def test_each_unicode_form_is_what_the_standard_says(form: str, expected: str) -> None:
    assert clean(Unicode(form=form), "e\u0301ﬁ²") == expected  # type: ignore[arg-type]


@given(TEXT)
def test_text_in_a_normal_form_stays_the_same_object(text: str) -> None:
    once = clean(Unicode(), text)
    assert unicodedata.is_normalized("NFC", once)
    assert clean(Unicode(), once) is once


def test_what_shows_nothing_goes_and_is_counted_by_kind() -> None:
    outcome = ControlCharacters().open()("\ufeffa\x00b\x1b\tc\nd\x9fe\u200bf\u00adg\u202eh\u2066i")
    assert outcome.text == "ab\tc\ndefghi"
    assert outcome.counts == {"control characters": 3, "invisible characters": 3, "bidi controls": 2}


def test_joiners_that_spell_words_and_emoji_stay() -> None:
    text = "می\u200cخواهم 👩\u200d🔬 क\u094d\u200dष"
    assert clean(ControlCharacters(), text) is text


def test_each_kind_of_invisible_character_can_be_kept() -> None:
    text = "a\x00b\u200bc\u202ed"
    assert clean(ControlCharacters(controls=False), text) == "a\x00bcd"
    assert clean(ControlCharacters(invisible=False), text) == "ab\u200bcd"
    assert clean(ControlCharacters(bidi=False), text) == "abc\u202ed"
    assert clean(ControlCharacters(controls=False, invisible=False, bidi=False), text) is text


@given(TEXT)
def test_removed_and_kept_characters_add_up(text: str) -> None:
    outcome = ControlCharacters().open()(text)
    assert len(text) == len(outcome.text) + sum(outcome.counts.values())
    assert not [c for c in outcome.text if unicodedata.category(c) == "Cc" and c not in "\n\t"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sÃ³", "só"),
        ("The Mona Lisa doesnâ€™t have eyebrows.", "The Mona Lisa doesn’t have eyebrows."),
        ("whole: café\nbroken: cafÃ©", "whole: café\nbroken: café"),
        ("voilÃ le travail", "voilà le travail"),
    ],
)
def test_mojibake_is_repaired(text: str, expected: str) -> None:
    outcome = Mojibake().open()(text)
    assert outcome.text == expected
    assert outcome.counts == {"documents repaired": 1}


@pytest.mark.parametrize(
    "text", ["“It’s” – ‘so’…", "ﬁnd ＬＯＵＤ &amp; &lt;b&gt;", "a\x00b\x1b[31m\r\n", "été à Köln", "日本語 e\u0301"]
)
def test_repairing_encodings_touches_nothing_else(text: str) -> None:
    assert clean(Mojibake(), text) is text


def test_other_repairs_are_made_when_asked_for() -> None:
    assert clean(Mojibake(uncurl_quotes=True), "“It’s”") == '"It\'s"'
    assert clean(Mojibake(fix_latin_ligatures=True), "ﬁnd") == "find"
    assert clean(Mojibake(fix_character_width=True), "ＬＯＵＤ") == "LOUD"
    assert clean(Mojibake(unescape_html=True), "a &amp; b") == "a & b"


@given(st.text(st.sampled_from("a é“”’—…Ã©â€™œ\n"), max_size=30))
def test_the_shortcut_before_ftfy_changes_no_result(text: str) -> None:
    import ftfy

    plain = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    assert clean(Mojibake(), text) == ftfy.fix_text(text, plain)


def test_a_missing_ftfy_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(UnavailableError, match=r'pip install "cairn-lm\[clean\]"'):
        Mojibake().open()


def test_blank_lines_and_spaces_at_the_edges_are_trimmed() -> None:
    assert clean(Trim(), "\n\n  a  \n\n\n\n\nb\t\nc\n\n") == "  a\n\n\nb\nc"
    assert clean(Trim(max_blank_lines=0), "a\n\n\nb \n") == "a\nb"
    text = "a\n\n\nb"
    assert clean(Trim(), text) is text


@pytest.mark.parametrize(
    ("step", "text", "reason"),
    [
        (Length(), "a" * 99, "too short"),
        (Length(), "a" * 100, ""),
        (Length(min_characters=0), "", ""),
        (Length(min_characters=0, max_characters=3), "abcd", "too long"),
        (Length(min_characters=0, max_characters=3), "abc", ""),
        (Length(min_characters=0, min_words=3), "one two", "too short"),
        (Length(min_characters=0, min_words=3), " one  two\nthree ", ""),
        (Length(min_characters=0, max_words=2), "one two three", "too long"),
        (Length(min_characters=0, max_words=2), "one two", ""),
    ],
)
def test_documents_outside_the_bounds_are_rejected(step: Length, text: str, reason: str) -> None:
    assert step.open()(text) == (text, reason, {}, "")


@pytest.mark.parametrize("settings", [{"min_characters": -1}, {"max_characters": 50}, {"min_words": 3, "max_words": 2}])
def test_bounds_that_leave_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="leave no document"):
        Length(**settings)


@pytest.mark.parametrize("step", [kind for kind in STEPS if kind is not Mojibake])
@given(text=TEXT)
def test_cleaning_twice_is_cleaning_once(step: type[DocumentStep], text: str) -> None:
    apply = step().open()
    once = apply(text).text
    assert apply(once).text is once
