"""Rows of JSON are read strictly, and the quick way gives what the strict reader makes of them, or leaves it to it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.readers.documents import rows_of
from pipeline.readers.json_rows import _object, read_plain
from pipeline.readers.text_rows import BadRow
from pipeline.sources.card import Source
from pipeline.sources.formats import FORMATS
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(**about: Any) -> Source:
    """Return a source whose files are read with these options."""
    return Source(name="test", location="x", sha256="x", reading=ReadingOptions(**about))


# --- lines ---------------------------------------------------------------------------------------------------


def test_a_row_is_placed_by_its_line(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"n": 1}\n\n{"n": 2}\r\n{"n": 3}')

    assert list(rows_of(source(), file)) == [("a.jsonl:1", {"n": 1}), ("a.jsonl:3", {"n": 2}), ("a.jsonl:4", {"n": 3})]


def test_a_line_of_jsonl_ends_at_a_newline_and_at_nothing_else(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u0085c\x0bd"}, {"text": "e"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).replace("\\u000b", "\x0b")
    file = file_of(tmp_path / "a.jsonl", json.dumps(rows[0]) + "\n" + text.splitlines(keepends=False)[-1] + "\n")

    assert [row for _, row in rows_of(source(), file)] == rows


def test_json_nested_too_deep_is_bad_data(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000)

    with pytest.raises(DataError, match=r"a\.jsonl:1 is not a JSON object"):
        list(rows_of(source(), file))


# --- the quick way -------------------------------------------------------------------------------------------


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


# --- JSON in chunks ------------------------------------------------------------------------------------------


def test_an_object_of_objects_has_its_keys_as_a_field(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.json", '{"fox": {"n": 1}, "hen": {"n": 2}}')

    assert list(rows_of(source(), file)) == [
        ("a.json:fox", {"key": "fox", "n": 1}),
        ("a.json:hen", {"key": "hen", "n": 2}),
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("read_bytes", [1, 2, 5, 64])
def test_a_json_file_is_the_same_whatever_chunks_it_is_read_in(
    tmp_path: Path, indent: int | None, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.readers import text_rows as rows_module

    rows = [{"n": 12345, "text": 'é “" \\ \n🦊', "deep": [{"a": [None, True, 1.5e3]}]}, {"n": -1, "text": ""}]
    monkeypatch.setattr(rows_module, "READ_BYTES", read_bytes)
    listed = file_of(tmp_path / "a.json", json.dumps(rows, indent=indent, ensure_ascii=False) + "\n")
    keyed = file_of(tmp_path / "b.json", json.dumps({"x": rows[0], "é": rows[1]}, indent=indent))

    assert [row for _, row in rows_of(source(), listed)] == [{"key": str(i), **row} for i, row in enumerate(rows, 1)]
    assert [row for _, row in rows_of(source(), keyed)] == [{"key": "x", **rows[0]}, {"key": "é", **rows[1]}]


NO_JSON = ["[", "[{}", "[{},", "[{},]", "[{} {}]", "[{}]]", "{1: {}}", '{"a" {}}', "[{}] x", "{}x"]


@pytest.mark.parametrize("text", NO_JSON)
def test_json_that_is_none_is_bad_data(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a\.json is not JSON: "):
        list(rows_of(source(), file_of(tmp_path / "a.json", text)))


@pytest.mark.parametrize("text", ["", " \n", "[]", "{}", "[ ]\n"])
def test_a_json_file_without_entries_has_no_rows(tmp_path: Path, text: str) -> None:
    assert list(rows_of(source(), file_of(tmp_path / "a.json", text))) == []
