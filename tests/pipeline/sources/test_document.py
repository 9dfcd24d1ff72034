"""The normal form and the size of a text."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.document import is_longer, normalize, utf8_size


@given(st.text())
def test_to_normalise_twice_is_to_normalise_once(text: str) -> None:
    once = normalize(text)

    assert normalize(once) == once and "\r" not in once


def test_line_ends_become_newlines_and_letters_are_composed() -> None:
    assert normalize("a\r\nb\rc\n\rd") == "a\nb\nc\n\nd"
    assert normalize("e\u0301\u2028") == "\u00e9\u2028"


@given(st.text(max_size=30), st.integers(0, 130))
def test_the_size_of_a_text_is_that_of_its_utf8(text: str, limit: int) -> None:
    size = len(text.encode("utf-8"))

    assert utf8_size(text) == size
    assert is_longer(text, limit) == (size > limit)
