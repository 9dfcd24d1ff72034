"""Bytes become rows and documents."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cards import LEFT_OUT, Source
from pipeline.errors import ConfigError, DataError
from pipeline.formats import FORMATS
from pipeline.readers import blocks_of, decode, documents_of, normalize, rows_of
from pipeline.streams import SourceFile


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(**about: Any) -> Source:
    return Source(name="test", location="x", sha256="x", **about)


# --- text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "offset", "byte"),
    [
        (b"\xff", 0, 0),
        (b"ab\xff", 0, 2),
        (b"\xef\xbb\xbfab\xff", 0, 5),
        (b"ab\xff", 100, 102),
        (b"\xc3\xa9\xc3", 0, 2),
        (b"\xef\xbb\xbf\xff", 7, 10),
    ],
)
def test_the_first_bad_byte_is_named_by_its_place_in_the_file(data: bytes, offset: int, byte: int) -> None:
    with pytest.raises(DataError, match=rf"a\.txt: byte {byte} \(0x[0-9a-f]{{2}}\) is not UTF-8"):
        decode(data, "a.txt", offset=offset)


@given(st.text())
def test_text_that_is_utf8_is_read_as_it_is(text: str) -> None:
    assert decode(b"\xef\xbb\xbf" + text.encode(), "a.txt") == text


@given(st.text())
def test_to_normalise_twice_is_to_normalise_once(text: str) -> None:
    once = normalize(text)

    assert normalize(once) == once and "\r" not in once


@given(text=st.text(alphabet="ab \n", max_size=400), block_bytes=st.integers(1, 60))
def test_blocks_put_together_are_the_text(text: str, block_bytes: int) -> None:
    assert "".join(blocks_of([text], block_bytes)) == text


def test_text_is_cut_at_blank_lines_if_there_are_any() -> None:
    text = "aaaa\naaaa\n\nbb\n\ncccc\ncccc\n\ndd"

    assert list(blocks_of([text], 10)) == ["aaaa\naaaa\n\n", "bb\n\ncccc\ncccc\n\n", "dd"]


def test_a_long_paragraph_is_cut_at_line_ends_and_a_long_line_at_spaces() -> None:
    assert list(blocks_of(["aaaa\n" * 5], 10)) == ["aaaa\naaaa\n", "aaaa\naaaa\n", "aaaa\n"]
    assert list(blocks_of(["aaaa " * 5], 10)) == ["aaaa aaaa ", "aaaa aaaa ", "aaaa "]


# --- rows ----------------------------------------------------------------------------------------------------


def test_a_row_is_placed_by_its_line(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"n": 1}\n\n{"n": 2}\r\n{"n": 3}')

    assert list(rows_of(source(), file)) == [("a.jsonl:1", {"n": 1}), ("a.jsonl:3", {"n": 2}), ("a.jsonl:4", {"n": 3})]


def test_a_line_of_jsonl_ends_at_a_newline_and_at_nothing_else(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u0085c\x0bd"}, {"text": "e"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).replace("\\u000b", "\x0b")
    file = file_of(tmp_path / "a.jsonl", json.dumps(rows[0]) + "\n" + text.splitlines(keepends=False)[-1] + "\n")

    assert [row for _, row in rows_of(source(), file)] == rows


def test_an_object_of_objects_has_its_keys_as_a_field(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.json", '{"fox": {"n": 1}, "hen": {"n": 2}}')

    assert list(rows_of(source(), file)) == [
        ("a.json:fox", {"key": "fox", "n": 1}),
        ("a.json:hen", {"key": "hen", "n": 2}),
    ]


def test_a_csv_field_may_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.csv", 'id,text\n1,"a, ""b""\nc"\n2,d\n')

    assert list(rows_of(source(), file)) == [
        ("a.csv:3", {"id": "1", "text": 'a, "b"\nc'}),
        ("a.csv:4", {"id": "2", "text": "d"}),
    ]


def test_in_a_tsv_a_quotation_mark_is_a_character_like_any_other(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.tsv", 'spam\tcall "now\nham\t"yes" he said\n')

    rows = [row for _, row in rows_of(source(columns=("label", "text")), file)]

    assert rows == [{"label": "spam", "text": 'call "now'}, {"label": "ham", "text": '"yes" he said'}]


def test_conversations_in_yaml_are_their_first_two_turns(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.yml", "conversations:\n- - Hi\n  - Hello\n  - Another\n- - 1\n  - 2\n")

    assert [row for _, row in rows_of(source(), file)] == [
        {"prompt": "Hi", "reply": "Hello"},
        {"prompt": "1", "reply": "2"},
    ]


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.yml", "conversations: !!python/object/apply:os.getcwd []\n")

    with pytest.raises(DataError, match="is not a list of conversations"):
        list(rows_of(source(), file))


def test_rows_with_an_unwanted_value_are_left_out_for_that_reason(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"topic": "a"}\n{"topic": "b"}\n{"topic": 3}\n{}\n')

    about = source(without={"topic": ("b", "3")}, text="text")
    found = [document.reason for document in documents_of(about, file, block_bytes=99)]

    assert found == ["", LEFT_OUT, LEFT_OUT, ""]


def test_plain_text_has_no_rows(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "text")

    with pytest.raises(ConfigError, match="is txt, which has no rows"):
        list(rows_of(source(), file))
    with pytest.raises(ConfigError, match="use file, blocks, paragraphs"):
        list(documents_of(source(documents="rows"), file, block_bytes=9))


def test_json_nested_too_deep_is_bad_data(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", '{"a":' * 100_000 + "1" + "}" * 100_000)

    with pytest.raises(DataError, match=r"a\.jsonl:1 is not a JSON object"):
        list(rows_of(source(), file))


# --- documents -----------------------------------------------------------------------------------------------


def places(about: Source, file: SourceFile, block_bytes: int = 4096) -> dict[str, str]:
    return {document.place: document.text for document in documents_of(about, file, block_bytes=block_bytes)}


def test_a_file_is_one_document_without_the_newlines_around_it(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "\n\n  one\r\n\r\ntwo \n\n")

    assert places(source(), file) == {"a.txt": "  one\n\ntwo "}


def test_documents_are_parted_by_their_separator(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "one\n***\ntwo\n***\n")

    found = places(source(documents="separator", separator="\n***\n"), file)

    assert found == {"a.txt#1": "one", "a.txt#2": "two", "a.txt#3": ""}


@pytest.mark.parametrize(
    ("documents", "name", "is_cut"),
    [
        ("auto", "a.txt", False),
        ("blocks", "a.txt", True),
        ("file", "a.txt", False),
        ("auto", "a.jsonl", False),
        ("blocks", "a.jsonl", True),
        ("rows", "a.jsonl", False),
    ],
)
def test_only_a_source_of_blocks_is_cut_into_blocks(tmp_path: Path, documents: Any, name: str, is_cut: bool) -> None:
    text = "one\n\ntwo\n\nthree"
    file = file_of(tmp_path / name, text if name.endswith(".txt") else json.dumps({"text": text}))

    found = places(source(documents=documents), file, block_bytes=4)

    assert len(found) == (3 if is_cut else 1)
