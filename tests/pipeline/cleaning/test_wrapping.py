"""Wrapping: lines that were broken to fit a page are joined, and no others."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning.wrapping import Unwrap, width_of
from pipeline.errors import ConfigError

PROSE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of "
    "Darkness, it was the spring of hope, it was the winter of despair, we had everything before us, we had nothing."
)
VERSE = (
    "Tiger, tiger, burning bright\nIn the forests of the night,\nWhat immortal hand or eye\nCould frame thy symmetry?"
)


def unwrap(text: str, **settings: int) -> str:
    return Unwrap(**settings).open()(text).text


def wrapped(text: str, width: int = 70) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


@pytest.mark.parametrize("width", [62, 70, 75, 118])
def test_a_wrapped_paragraph_becomes_one_line(width: int) -> None:
    assert unwrap(wrapped(PROSE, width)) == PROSE


def test_paragraphs_stay_apart_and_the_joined_lines_are_counted() -> None:
    page = wrapped(PROSE)
    outcome = Unwrap().open()(f"{page}\n\n{page}\n\n\n{page}")
    assert outcome.text == f"{PROSE}\n\n{PROSE}\n\n\n{PROSE}"
    assert outcome.counts == {"lines joined": 3 * page.count("\n")}


@pytest.mark.parametrize(
    "block",
    [
        VERSE,
        textwrap.indent(VERSE, "    "),
        "CHAPTER I.\nThe Period",
        "Mr. J. Smith\n12, Grocer's Alley\nLondon",
        "- one thing that is long enough to fill the whole line of the page as it is\n- another thing",
        "1. one thing that is long enough to fill the whole line of the page it is\n2. another thing",
        "A heading of a table      with columns  that are filled up to the end\nGold      12       13",
        "    An indented quotation that fills all of the line up to its very end\n    and goes on here.",
    ],
)
def test_verse_lists_tables_and_headings_beside_prose_stay(block: str) -> None:
    page = wrapped(PROSE)
    assert unwrap(f"{page}\n\n{block}\n\n{page}") == f"{PROSE}\n\n{block}\n\n{PROSE}"


def test_a_document_that_is_not_wrapped_stays_the_same_object() -> None:
    for text in (VERSE, PROSE, f"{PROSE}\n{PROSE}", "", "\n\n", "word"):
        assert unwrap(text) is text


def test_the_next_word_decides_to_the_column() -> None:
    page = "\n".join(["x" * 69 + "."] * 60)
    fits, does_not = "a" * 60 + "\nBcdefghij z", "a" * 60 + "\nBcdefghijk z"
    assert unwrap(f"{page}\n\n{fits}", slack=0).endswith(fits)
    assert unwrap(f"{page}\n\n{does_not}", slack=0).endswith("a" * 60 + " Bcdefghijk z")
    assert unwrap(f"{page}\n\n{fits}", slack=1).endswith("a" * 60 + " Bcdefghij z")


def test_a_ragged_line_is_joined_where_a_small_letter_follows() -> None:
    page = wrapped(PROSE)
    ragged = (
        "this line ends early but the sentence goes on\nand on, and then a line ends a sentence.\nSo this one stays."
    )
    assert unwrap(f"{page}\n\n{ragged}").endswith(ragged)
    longer = "this line ends early but not so very early, and the\nsentence goes on."
    assert unwrap(f"{page}\n\n{longer}").endswith(longer.replace("\n", " "))


@pytest.mark.parametrize(
    ("end", "joined"),
    [
        ("well-\nknown thing", "well-known thing"),
        ("said--\nand went", "said--and went"),
        ("said —\nand went", "said — and went"),
    ],
)
def test_a_hyphen_or_dash_is_joined_as_it_is_written(end: str, joined: str) -> None:
    page = wrapped(PROSE)
    assert unwrap(f"{page}\n\n{'word ' * 11}{end}").endswith(joined)


def test_scripts_without_spaces_are_left_alone() -> None:
    text = "\n".join(["春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 4] * 5)
    assert unwrap(text) is text


def test_one_line_that_sticks_out_does_not_change_the_width() -> None:
    lines = ["x" * 70] * 60 + ["y" * 300]
    assert width_of(lines) == 70
    assert width_of(["", ""]) == 0


@given(st.text(st.sampled_from("aB .-\n "), max_size=400))
def test_no_character_but_white_space_is_lost(text: str) -> None:
    assert "".join(unwrap(text, min_width=1).split()) == "".join(text.split())


@pytest.mark.parametrize("settings", [{"min_width": 0}, {"min_width": 90, "max_width": 80}, {"slack": -1}])
def test_widths_that_make_no_sense_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="make no sense"):
        Unwrap(**settings)
