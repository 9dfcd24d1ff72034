"""The normal form and the size of a text."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.document import normalize


@given(st.text())
def test_to_normalise_twice_is_to_normalise_once(text: str) -> None:
    once = normalize(text)

    assert normalize(once) == once and "\r" not in once
