"""Numbers and untrusted text as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.wording import changed_words, excerpt, percent, size, title_of, token, visible


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_950, "1.00 MB"),
        (2e13, "20.0 TB"),
    ],
)
def test_sizes_have_three_digits(count: float, text: str) -> None:
    assert size(count) == text


def test_what_is_too_large_for_the_last_unit_is_still_written_in_it() -> None:
    assert size(12_345e15) == "12345 PB"


@pytest.mark.parametrize(
    ("part", "text"), [(0, "0%"), (1, "<0.1%"), (123, "1.2%"), (9999, ">99.9%"), (10_000, "100%"), (9949, "99.5%")]
)
def test_a_share_is_never_rounded_to_nothing_or_all(part: int, text: str) -> None:
    assert percent(part, 10_000) == text


def test_there_is_no_share_of_nothing() -> None:
    assert percent(0, 0) == "–"


def test_hidden_characters_are_shown() -> None:
    assert visible("a\x00b\x1b[0m\u202ec\u200b") == "a␀b␛[0m⟨202E⟩c⟨200B⟩"
    assert visible("one\ntwo \r\n\r\n  three") == "one two ¶ three"
    assert token(" a\n") == "␣a⏎"


@given(text=st.text(max_size=40))
def test_nothing_visible_has_a_line_end_or_a_control_character(text: str) -> None:
    shown = visible(text)

    assert all(letter.isprintable() or letter.isspace() for letter in shown)
    assert "\n" not in shown and "\r" not in shown and "\x1b" not in shown
    assert visible(shown) == shown, "what is visible stays as it is"


def test_an_excerpt_ends_with_a_whole_word() -> None:
    assert excerpt("short", 10) == "short"
    assert excerpt("one two three", 10) == "one two …"
    assert excerpt("x" * 30, 10) == "xxxxxxxxx…"


@given(text=st.text("ab \n", max_size=40), most=st.integers(1, 30))
def test_an_excerpt_is_the_start_of_its_text_and_not_much_longer_than_asked_for(text: str, most: int) -> None:
    shown = excerpt(text, most)

    assert len(shown) <= most + 1
    assert text.startswith(shown.removesuffix("…").rstrip())
    assert (shown == text) == (len(text) < most)


def test_words_that_differ_are_marked() -> None:
    assert list(changed_words("the red fox ran home", "the old fox ran home …")) == [
        ("the", False),
        ("old", True),
        ("fox ran home", False),
        ("…", False),
    ]


def test_words_that_only_the_kept_text_has_are_not_shown_and_equal_texts_are_one_run() -> None:
    assert list(changed_words("a b c d", "a d")) == [("a", False), ("d", False)]
    assert list(changed_words("a b", "a b")) == [("a b", False)]
    assert list(changed_words("a b", "")) == []


def test_a_key_is_words() -> None:
    assert title_of("bytes_per_token") == "bytes per token"
