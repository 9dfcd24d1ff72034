"""Where a text is cut depends on the text alone, never on the chunks of its stream."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.readers.segmentation import blocks_of, paragraphs_of, sections_of, split_text


def in_chunks(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


@given(text=st.text(alphabet="ab \n", max_size=400), block_bytes=st.integers(1, 60))
def test_blocks_put_together_are_the_text(text: str, block_bytes: int) -> None:
    assert "".join(blocks_of([text], block_bytes)) == text


def test_text_is_cut_at_blank_lines_if_there_are_any() -> None:
    text = "aaaa\naaaa\n\nbb\n\ncccc\ncccc\n\ndd"

    assert list(blocks_of([text], 10)) == ["aaaa\naaaa\n\n", "bb\n\ncccc\ncccc\n\n", "dd"]


def test_a_long_paragraph_is_cut_at_line_ends_and_a_long_line_at_spaces() -> None:
    assert list(blocks_of(["aaaa\n" * 5], 10)) == ["aaaa\naaaa\n", "aaaa\naaaa\n", "aaaa\n"]
    assert list(blocks_of(["aaaa " * 5], 10)) == ["aaaa aaaa ", "aaaa aaaa ", "aaaa "]


@given(text=st.text(alphabet="ab=\n ", max_size=200), separator=st.text(alphabet="ab=\n", min_size=1, max_size=4))
def test_a_stream_is_parted_as_the_whole_text_would_be(text: str, separator: str) -> None:
    for size in (1, 2, 3, 7, 300):
        assert list(split_text(in_chunks(text, size), separator, 10**6)) == text.split(separator)


@given(text=st.text(alphabet="ab \n", max_size=300), size=st.integers(1, 9))
def test_where_documents_start_does_not_depend_on_the_chunks_of_the_stream(text: str, size: int) -> None:
    heading = re.compile("a+b")

    assert list(paragraphs_of(in_chunks(text, size), 99)) == list(paragraphs_of([text], 99))
    assert list(sections_of(in_chunks(text, size), heading, 99)) == list(sections_of([text], heading, 99))
    assert list(blocks_of(in_chunks(text, size), 20)) == list(blocks_of([text], 20))


def test_where_a_long_text_is_cut_does_not_depend_on_the_chunks_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.readers import segmentation as documents_module

    monkeypatch.setattr(documents_module, "_WINDOW", 50)
    for text in ("a" * 500, "a b c " * 100, "word\n" * 100, "some words\n\n" * 30):
        expected = list(blocks_of([text], 20))
        assert "".join(expected) == text and max(map(len, expected)) <= 100
        assert all(list(blocks_of(in_chunks(text, size), 20)) == expected for size in (1, 7, 49, 50, 51))
