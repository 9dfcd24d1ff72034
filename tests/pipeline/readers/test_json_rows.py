"""Rows that are read the quick way are what the strict reader makes of them, or the strict reader reads them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.readers.json_rows import _object, read_plain
from pipeline.readers.text_rows import BadRow

texts = st.text(st.characters(codec="utf-8") | st.sampled_from('":,{}\\ \t'), max_size=20)
values = st.recursive(
    texts | st.none() | st.booleans() | st.integers() | st.floats(), lambda inner: st.lists(inner), max_leaves=4
)


@given(st.dictionaries(texts, values, max_size=4), st.booleans())
def test_what_is_read_quickly_is_what_is_read_strictly(row: dict[str, object], spaced: bool) -> None:
    text = json.dumps(row, ensure_ascii=False, separators=(", ", " : ") if spaced else None)

    quick = read_plain(text.encode())

    assert quick is None or quick == row == _object(text, "here")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"1","a":"2"}',
        b'{"a":"1","a" :"2"}',
        b'{"a" :"1","a" :"2"}',
        b'{"a"\t:"1","a":"2"}',
        rb'{"a":"1","a":"\u0022\u0022\u0022\u0022"}',
        b'{"a":"1"} x',
        b'["a"]',
        b'{"a":"\\ud800"}',
        b'{"a":1}',
        b'{"a":NaN}',
        b"\xff",
        b"",
        b"\n",
        b'{"a":"x\ty"}'.replace(b"\\t", b"\t"),
    ],
)
def test_what_may_be_wrong_is_left_to_the_strict_reader(data: bytes) -> None:
    assert read_plain(data) is None


def test_a_key_that_stands_twice_is_refused_however_it_is_written() -> None:
    hidden = r'{"a":"1","a":"\u0022\u0022\u0022\u0022"}'  # as many quotation marks as if there were one entry
    for text in ('{"a":"1","a":"2"}', '{"a":"1","a" :"2"}', '{"a"\n:"1","a":"2"}', hidden):
        assert read_plain(text.encode()) is None
        with pytest.raises(BadRow, match="twice"):
            _object(text, "here")
