"""Quality: every rule of Gopher, C4 and FineWeb at the edge of its threshold, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning.quality import C4Quality, FinewebQuality, GopherQuality

STOPS = "the of "


def gopher(text: str, **settings: float) -> str:
    outcome = GopherQuality(**settings).open()(text)  # type: ignore[arg-type]
    assert outcome.text is text
    return outcome.reason


def c4(text: str, **settings: bool | int) -> tuple[str, str]:
    outcome = C4Quality(**settings).open()(text)  # type: ignore[arg-type]
    return outcome.reason, outcome.text


def fineweb(text: str) -> str:
    outcome = FinewebQuality().open()(text)
    assert outcome.text is text
    return outcome.reason


# --- Gopher --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (STOPS + "word " * 47, "too few words"),
        (STOPS + "word " * 48, ""),
        (STOPS + "word " * 99_998, ""),
        (STOPS + "word " * 99_999, "too many words"),
        (STOPS + "aa " * 60, "mean word length"),
        (STOPS + "aaaa " + "aaa " * 60, ""),
        (STOPS + "a" * 10 + " " + "a" * 10 + " " + "aaaaaaaaaa " * 60, ""),
        ("the of " + "a" * 11 + " " + "aaaaaaaaaaa " * 60, "mean word length"),
        (STOPS + "word " * 48 + "#####", ""),
        (STOPS + "word " * 48 + "# " * 6, "too many hashes"),
        (STOPS + "word... " * 5 + "word " * 43, ""),
        (STOPS + "word... " * 3 + "word… " * 3 + "word " * 42, "too many ellipses"),
        (STOPS + "words " * 38 + "12345 " * 10, ""),
        (STOPS + "words " * 37 + "12345 " * 11, "too few words with letters"),
        (STOPS + "(words, " * 38 + "12345 " * 10, ""),
        ("the " + "word " * 60, "too few stop words"),
        ("the The THE " + "word " * 60, "too few stop words"),
        ("The WITH " + "word " * 60, ""),
        ("", "too few words"),
    ],
)
def test_gopher_on_words(text: str, reason: str) -> None:
    assert gopher(text) == reason


def lines(bad: str, bad_count: int, good_count: int) -> str:
    good = "the end of some line with words"
    return "\n".join([bad] * bad_count + ["", "  "] + [good] * good_count)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lines("  - one of these items in the list", 9, 1), ""),
        (lines("  • one of these items in the list", 10, 1), "too many bullet lines"),
        (lines("this is the start of something ... ", 3, 7), ""),
        (lines("this is the start of something … ", 4, 6), "too many ellipsis lines"),
    ],
)
def test_gopher_on_lines(text: str, reason: str) -> None:
    assert gopher(text) == reason


def test_gophers_thresholds_are_settings() -> None:
    assert gopher("the cat of Rome", min_words=4) == ""
    assert gopher("# " * 60, max_hashes=1.0, min_mean_word_length=1.0, min_alphabetic_words=0.0) == "too few stop words"
    assert GopherQuality(stop_words=("der", "und")).open()("der und " + "wort " * 60).reason == ""


# --- C4 ------------------------------------------------------------------------------------------------------

SENTENCES = "One sentence is in this line.\nThen there is a second one!\nAnd is there a third one?"


def test_c4_keeps_sentences_as_they_are() -> None:
    outcome = C4Quality().open()(SENTENCES)
    assert outcome.text is SENTENCES
    assert outcome == (SENTENCES, "", {}, "")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("A line without any end mark", "lines without end mark"),
        ("A line that just trails off...", "lines without end mark"),
        ("A line that just trails off…", "lines without end mark"),
        ("Only four words here.", "lines of few words"),
        ("A huge word is " + "x" * 1001 + " in this.", "lines with a huge word"),
        ("Please turn on Javascript in this browser.", "lines on javascript"),
        ("By going on you accept our Privacy Policy.", "lines on policies"),
        ("This site uses cookies for no good reason.", "lines on policies"),
    ],
)
def test_c4_removes_a_line_and_counts_why(line: str, fault: str) -> None:
    outcome = C4Quality().open()(f"{SENTENCES}\n{line}\n{SENTENCES}")
    assert outcome.text == f"{SENTENCES}\n{SENTENCES}"
    assert outcome.counts == {fault: 1}


@pytest.mark.parametrize("line", ["There are five words here.", 'She said "that is enough"', "And “so it goes on.”  "])
def test_c4_keeps_a_line_at_the_edge_of_its_rules(line: str) -> None:
    assert c4(f"{SENTENCES}\n{line}") == ("", f"{SENTENCES}\n{line}")


def test_c4_leaves_one_blank_line_where_lines_went() -> None:
    assert c4(f"menu\n\n{SENTENCES}\n\nmenu\nmenu\n\n{SENTENCES}\n\nmenu") == ("", f"{SENTENCES}\n\n{SENTENCES}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SENTENCES + "\nif (x) { return; } is code all right.", "curly bracket"),
        (SENTENCES + "\nLorem Ipsum is what printers write here.", "lorem ipsum"),
        (SENTENCES.rpartition("\n")[0], "too few sentences"),
        ("One is here. Two is here! Is three here?", ""),
        ("Version 1.2.3 of it is out now and good.", "too few sentences"),
        ("no sentence at all\nhere", "too few sentences"),
        ("", "too few sentences"),
    ],
)
def test_c4_rejects_documents(text: str, reason: str) -> None:
    found, rest = c4(text)
    assert found == reason
    assert rest is text


def test_a_rejected_document_still_counts_its_lines() -> None:
    outcome = C4Quality().open()("menu\nhome\nThis one line is all right.")
    assert outcome.reason == "too few sentences"
    assert outcome.counts == {"lines without end mark": 2}


def test_c4_removes_wikipedias_citations() -> None:
    outcome = C4Quality().open()(SENTENCES.replace("line.", "line.[12][citation needed]") + " [2004 was a year] of it.")
    assert outcome.text == SENTENCES + " [2004 was a year] of it."
    assert outcome.counts == {"citations removed": 2}


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"end_marks": False}, "A line without any end mark"),
        ({"min_words_per_line": 1}, "Four words are few."),
        ({"curly_brackets": False}, "A set is written as {1, 2}."),
        ({"lorem_ipsum": False}, "They wrote lorem ipsum on it."),
        ({"javascript": False}, "Some books are about Javascript alone."),
        ({"policies": False}, "The privacy policy of kings was secrecy."),
        ({"citations": False}, "This was shown in a study.[3]."),
        ({"min_sentences": 9, "max_word_length": 2000}, ""),
    ],
)
def test_every_rule_of_c4_can_be_turned_off(setting: dict[str, bool | int], line: str) -> None:
    text = "\n".join([SENTENCES] * 3 + ([line] if line else []))
    assert c4(text, **setting) == ("", text)


@given(st.lists(st.sampled_from([*SENTENCES.split("\n"), "menu", "", " ", "uses cookies for all of this.", "x..."])))
def test_what_c4_keeps_it_keeps_again(written: list[str]) -> None:
    judge = C4Quality(min_sentences=0).open()
    once = judge("\n".join(written)).text
    assert judge(once).text is once
    assert [line for line in once.split("\n") if line.strip()] == [
        line for line in written if line.strip() and line in SENTENCES
    ]


# --- FineWeb -------------------------------------------------------------------------------------------------


def page(*groups: tuple[int, str]) -> str:
    """Return so many lines of each kind, all different."""
    numbered = (text.replace("N", f"{i:02d}", 1) for count, text in groups for i in range(count))
    return "\n".join(numbered)


LONG = "this is line number N of those that are long enough"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (page((12, LONG + "."), (88, LONG + " all right")), "too few punctuated lines"),
        (page((13, LONG + "."), (87, LONG + " all right")), ""),
        (page((13, LONG + ".”"), (87, LONG + " all right")), ""),
        (page((67, "line N of these lines is short."), (33, LONG + ".")), ""),
        (page((67, "line N of the lines is short."), (33, LONG + ".")), "too many short lines"),
        (page((66, "line N of the lines is short."), (34, LONG + ".")), ""),
        (page((9, LONG + "."), (1, LONG + "!")) + "\n" + page((1, LONG + "!")), ""),
        (page((8, LONG + "."), (1, LONG + "!")) + "\n" + page((1, LONG + "!")), "duplicated lines"),
        (page((10, LONG + ".")).replace("\n", "\n\n\n"), ""),
        (page((10, LONG + ".")).replace("\n", "\n\n\n\n"), "too many line ends"),
        ("\n \n", "no lines"),
        ("", "no lines"),
    ],
)
def test_fineweb_on_lines(text: str, reason: str) -> None:
    assert fineweb(text) == reason
