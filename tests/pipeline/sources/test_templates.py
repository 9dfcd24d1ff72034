"""Templates over the fields of a row."""

from typing import Any

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.sources.templates import FILTERS, check_template, fields_of, render

ROW: dict[str, Any] = {
    "title": "Milne",
    "extract": "A. A. Milne wrote books. He lived in Sussex. He had a bear.\nMore.",
    "steps": ["boil  water", "", "add tea"],
    "year": 1926,
    "empty": "",
    "none": None,
    "Long Name": "x",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{title}: {year}", "Milne: 1926"),
        ("{Long Name}", "x"),
        ("{extract|first_sentence}", "A. A. Milne wrote books."),
        ("{extract|first_sentences_2}", "A. A. Milne wrote books. He lived in Sussex."),
        ("{title|lower_first}{title|upper_first}", "milneMilne"),
        ("{steps}", "boil water, add tea"),
        ("{steps|numbered_lines}", "1. boil water\n2. add tea"),
        ("{steps|dash_lines}", "- boil water\n- add tea"),
        ("{steps|at_most_2|join_comma}", "boil water, add tea"),
        ("{steps|first|upper_first}", "Boil water"),
        ("{ not a field }", "{ not a field }"),
    ],
)
def test_a_template_is_filled_from_the_row(template: str, text: str) -> None:
    assert render(template, ROW) == text


@pytest.mark.parametrize("template", ["{empty}", "{none}", "x {title} {empty|strip}", "{steps|at_most_1}"])
def test_a_field_that_is_empty_makes_no_text_at_all(template: str) -> None:
    assert render(template, ROW) is None


def test_a_field_that_is_not_there_is_bad_data_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"no field 'titel'\. Did you mean 'title'"):
        render("{titel}", ROW)


@pytest.mark.parametrize("template", ["{review-text}", "{a.b}", "{", "text}"])
def test_a_brace_that_belongs_to_no_field_is_a_wrong_setting(template: str) -> None:
    with pytest.raises(ConfigError, match="belongs to no {field}"):
        check_template(template, "source x")


def test_a_filter_that_does_not_exist_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"'frist_sentence'\. Did you mean 'first_sentence'"):
        check_template("{title|frist_sentence}", "source x")


def test_the_fields_of_a_template_are_named_in_order() -> None:
    assert fields_of("{b|strip} and {a}") == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("He met Dr. Jones. Then he left.", "He met Dr. Jones."),
        ("It cost 3.5 pounds. That was much.", "It cost 3.5 pounds."),
        ('She said "Go!" Then she went.', 'She said "Go!"'),
        ("No end at all", "No end at all"),
        ("  Two\nlines. Here. ", "Two"),
    ],
)
def test_the_first_sentence_of_worked_examples(text: str, first: str) -> None:
    assert FILTERS["first_sentence"](text) == first
