"""Bytes become rows and documents."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError, UnavailableError
from pipeline.readers.documents import blocks_of, decode, documents_of, may_be_cut, rows_of
from pipeline.readers.segmentation import paragraphs_of, parts_of, sections_of
from pipeline.sources.card import LEFT_OUT, Source
from pipeline.sources.document import TOO_LONG, normalize
from pipeline.sources.formats import FORMATS
from pipeline.sources.streams import SourceFile


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


def found(about: Source, file: SourceFile) -> list[tuple[str, str, str]]:
    return [(d.place, d.text, d.reason) for d in documents_of(about, file, block_bytes=4096)]


def in_pieces(text: str, size: int) -> Iterator[str]:
    return (text[i : i + size] for i in range(0, len(text), size))


@given(text=st.text(alphabet="ab=\n ", max_size=200), separator=st.text(alphabet="ab=\n", min_size=1, max_size=4))
def test_a_stream_is_parted_as_the_whole_text_would_be(text: str, separator: str) -> None:
    for size in (1, 2, 3, 7, 300):
        assert list(parts_of(in_pieces(text, size), separator, 10**6)) == text.split(separator)


@given(text=st.text(alphabet="ab \n", max_size=300), size=st.integers(1, 9))
def test_where_documents_start_does_not_depend_on_the_pieces_of_the_stream(text: str, size: int) -> None:
    heading = re.compile("a+b")

    assert list(paragraphs_of(in_pieces(text, size), 99)) == list(paragraphs_of([text], 99))
    assert list(sections_of(in_pieces(text, size), heading, 99)) == list(sections_of([text], heading, 99))
    assert list(blocks_of(in_pieces(text, size), 20)) == list(blocks_of([text], 20))


def test_where_a_long_text_is_cut_does_not_depend_on_the_pieces_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.readers import segmentation as documents_module

    monkeypatch.setattr(documents_module, "_WINDOW", 50)
    for text in ("a" * 500, "a b c " * 100, "word\n" * 100, "some words\n\n" * 30):
        expected = list(blocks_of([text], 20))
        assert "".join(expected) == text and max(map(len, expected)) <= 100
        assert all(list(blocks_of(in_pieces(text, size), 20)) == expected for size in (1, 7, 49, 50, 51))


def test_paragraphs_lie_between_blank_lines(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "\n\none\nmore of it\r\n\r\n \t\n\ntwo\n\n\n")

    assert places(source(documents="paragraphs"), file) == {"a.txt#1": "one\nmore of it", "a.txt#2": "two"}


def test_a_section_starts_at_each_matching_line_and_what_is_before_the_first_is_one_too(tmp_path: Path) -> None:
    text = "By nobody\n\nCHAPTER I\nIt rained.\nIn CHAPTER II it did not.\nCHAPTER II\n\nSun.\n"
    about = source(documents="sections", split_at=r"CHAPTER [IVX]+")

    assert places(about, file_of(tmp_path / "a.txt", text)) == {
        "a.txt#1": "By nobody",
        "a.txt#2": "CHAPTER I\nIt rained.\nIn CHAPTER II it did not.",
        "a.txt#3": "CHAPTER II\n\nSun.",
    }
    assert places(about, file_of(tmp_path / "b.txt", "\n\nCHAPTER I\nRain.")) == {"b.txt#1": "CHAPTER I\nRain."}
    assert places(about, file_of(tmp_path / "c.txt", "No chapter.")) == {"c.txt#1": "No chapter."}


@pytest.mark.parametrize("way", ["file", "blocks", "paragraphs", "sections", "separator"])
def test_an_empty_file_is_one_empty_document(tmp_path: Path, way: Any) -> None:
    about = source(documents=way, **{"sections": {"split_at": "x"}, "separator": {"separator": "x"}}.get(way, {}))

    assert found(about, file_of(tmp_path / "a.txt", "")) in ([("a.txt", "", "")], [("a.txt#1", "", "")])


# --- too long ------------------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_left_out_and_those_around_it_are_read(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}) for text in ("one", "x" * 5000, "two")]
    about = source(max_document_bytes=1000)

    assert found(about, file_of(tmp_path / "a.jsonl", "\n".join(rows))) == [
        ("a.jsonl:1", "one", ""),
        ("a.jsonl:2", "", TOO_LONG),
        ("a.jsonl:3", "two", ""),
    ]
    table = "text,n\none,1\n" + "x" * 5000 + ",2\ntwo,3\n"
    assert found(about, file_of(tmp_path / "a.csv", table)) == [
        ("a.csv:2", "one", ""),
        ("a.csv:3", "", TOO_LONG),
        ("a.csv:4", "two", ""),
    ]


def test_a_row_that_becomes_too_long_a_text_is_left_out(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["one", "é" * 501, "é" * 500]}), tmp_path / "a.parquet")
    file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())

    assert [reason for _, _, reason in found(source(max_document_bytes=1000), file)] == ["", TOO_LONG, ""]


def test_a_file_that_is_too_long_for_one_document_is_cut_unless_it_must_be_one(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.txt", "Ten bytes.\n\n" * 1000)

    assert len(places(source(max_document_bytes=1000), file)) > 2
    with pytest.raises(DataError, match=r"a\.txt as one document is longer than max_document_bytes \(1000\)"):
        places(source(documents="file", max_document_bytes=1000), file)
    [one] = documents_of(source(documents="file", bad_rows="reject", max_document_bytes=1000), file, block_bytes=9)
    assert one.reason == TOO_LONG


@pytest.mark.parametrize("way", ["paragraphs", "sections", "separator"])
def test_a_part_that_is_too_long_is_left_out_and_those_around_it_are_read(tmp_path: Path, way: Any) -> None:
    ways: dict[str, Any] = {"paragraphs": {}, "sections": {"split_at": "#"}, "separator": {"separator": "\n\n"}}
    file = file_of(tmp_path / "a.txt", "#one\n\n#" + "x" * 2000 + "\n\n#two")
    about = source(documents=way, max_document_bytes=1000, **ways[way])

    assert [(text, reason) for _, text, reason in found(about, file)] == [("#one", ""), ("", TOO_LONG), ("#two", "")]


def test_a_csv_field_whose_quotation_mark_is_never_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.csv", 'text\n"open\n' + "x" * 400 + "\n" + "y" * 700 + "\n")

    with pytest.raises(DataError, match=r"a\.csv:4 is in a row that is longer than max_document_bytes .*mark open"):
        list(documents_of(source(max_document_bytes=1000), file, block_bytes=9))


# --- bad rows ------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "jsonl": (
        "a.jsonl",
        b'{"text": "a"}\n{"text": \n["text"]\n{"text": "\xff"}\n{"text": "a", "text": "b"}\n{"text": NaN}\n'
        b'{"text": "\\ud800"}\n{"title": "x"}\n{"text": "b"}\n',
        [
            ("a.jsonl:1", ""),
            ("a.jsonl:2", "not JSON"),
            ("a.jsonl:3", "not a JSON object"),
            ("a.jsonl:4", "bad UTF-8"),
            ("a.jsonl:5", "not JSON"),
            ("a.jsonl:6", "not JSON"),
            ("a.jsonl:7", "not JSON"),
            ("a.jsonl:8", "no such field"),
            ("a.jsonl:9", ""),
        ],
    ),
    "json": (
        "a.json",
        b'[{"text": "a"}, 3, {"text": "a", "text": "b"}, {"text": -Infinity}, {"text": "\\ud800"}, {"text": "b"}]',
        [
            ("a.json:1", ""),
            ("a.json:2", "not a JSON object"),
            ("a.json:3", "not JSON"),
            ("a.json:4", "not JSON"),
            ("a.json:5", "not JSON"),
            ("a.json:6", ""),
        ],
    ),
    "csv": (
        "a.csv",
        b'text,n\na,1\nb\nc,d,e\n\xff,2\n"f" g,3\nh,4\n',
        [
            ("a.csv:2", ""),
            ("a.csv:3", "another number of fields"),
            ("a.csv:4", "another number of fields"),
            ("a.csv:5", "bad UTF-8"),
            ("a.csv:6", "not csv"),
            ("a.csv:7", ""),
        ],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_left_out_for_a_reason_when_that_is_asked_for(tmp_path: Path, case: str) -> None:
    name, data, expected = BAD[case]
    file = file_of(tmp_path / name, data)

    assert sorted((place, reason) for place, _, reason in found(source(bad_rows="reject"), file)) == expected
    with pytest.raises(DataError):
        found(source(), file)


def test_rows_that_are_left_out_are_handed_over_apart(tmp_path: Path) -> None:
    rejected: list[Any] = []
    file = file_of(tmp_path / "a.jsonl", '{"text": "a"}\nnothing\n')

    assert [place for place, _ in rows_of(source(bad_rows="reject"), file, rejected.append)] == ["a.jsonl:1"]
    assert [(one.place, one.reason, one.text) for one in rejected] == [("a.jsonl:2", "not JSON", "nothing\n")]


# --- JSON in pieces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("read_bytes", [1, 2, 5, 64])
def test_a_json_file_is_the_same_whatever_pieces_it_is_read_in(
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


# --- encodings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("read_bytes", [1, 3, 2**20])
def test_text_in_a_named_encoding_is_read(
    tmp_path: Path, encoding: str, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.sources import streams as streams_module

    monkeypatch.setattr(streams_module, "READ_BYTES", read_bytes)
    text = "Größe naïve ¿qué?" if encoding in ("latin-1", "cp1252") else "Größe “日本” 🦊"
    plain = file_of(tmp_path / "a.txt", text.encode(encoding))
    table = file_of(tmp_path / "a.csv", f"text,n\n{text},1\n".encode(encoding))

    assert found(source(encoding=encoding), plain) == [("a.txt", text, "")]
    assert found(source(encoding=encoding), table) == [("a.csv:2", text, "")]


@pytest.mark.parametrize(
    ("encoding", "data", "byte"),
    [("cp1252", b"good \x81", 5), ("utf-16-le", b"a\0b\0\x00\xd8", 4), ("shift_jis", b"ab\x80", 2)],
)
def test_a_byte_that_is_not_in_the_encoding_is_named(tmp_path: Path, encoding: str, data: bytes, byte: int) -> None:
    with pytest.raises(DataError, match=rf"a\.txt: byte {byte} \(0x[0-9a-f]{{2}}\) is not {encoding}"):
        found(source(encoding=encoding), file_of(tmp_path / "a.txt", data))


def test_utf16_without_a_mark_says_nothing_of_the_order_of_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="encoding: utf-16-le or utf-16-be"):
        found(source(encoding="utf-16"), file_of(tmp_path / "a.txt", "ab".encode("utf-16-le")))


@pytest.mark.parametrize("read_bytes", [1, 4, 2**20])
def test_what_is_replaced_is_counted_and_a_replacement_that_was_there_before_is_not(
    tmp_path: Path, read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.sources import streams as streams_module

    monkeypatch.setattr(streams_module, "READ_BYTES", read_bytes)
    data = b"a\xffb \xef\xbf\xbd \xf0\x9f\xa6 \xe4\n\nc\xff\n\nd"
    file = file_of(tmp_path / "a.txt", data)

    documents = list(documents_of(source(errors="replace", documents="paragraphs"), file, block_bytes=99))

    assert [document.text for document in documents] == ["a\ufffdb \ufffd \ufffd \ufffd", "c\ufffd", "d"]
    assert sum(document.replaced for document in documents) == 4


def test_in_a_table_too_bytes_are_replaced_only_when_that_is_asked_for(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.jsonl", b'{"text": "a\xff"}\n{"text": "b"}\n')

    documents = list(documents_of(source(errors="replace"), file, block_bytes=99))

    assert [document.text for document in documents] == ["a\ufffd", "b"]
    assert sum(document.replaced for document in documents) == 1
    with pytest.raises(DataError, match=r"a\.jsonl:1: byte 11 \(0xff\) is not UTF-8"):
        found(source(), file)


def test_the_first_bad_byte_of_a_long_text_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.readers import text_rows as rows_module

    monkeypatch.setattr(rows_module, "READ_BYTES", 7)
    data = "é日🦊".encode() * 50

    with pytest.raises(DataError, match=rf"a\.txt: byte {len(data)} \(0xff\) is not UTF-8"):
        found(source(), file_of(tmp_path / "a.txt", data + b"\xff" + data))


# --- tables --------------------------------------------------------------------------------------------------


def test_of_a_table_only_the_columns_that_are_needed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.readers import documents as readers_module

    seen: list[Any] = []
    monkeypatch.setattr(readers_module, "render", lambda template, row: seen.append(row) or row["b"])
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": ["p", "q"]})
    pq.write_table(table, tmp_path / "a.parquet")
    file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())

    assert [t for _, t, _ in found(source(text="{b}!", without={"c": ("q",)}), file)] == ["x", ""]
    assert seen == [{"b": "x", "c": "p"}]
    assert [row for _, row in rows_of(source(), file)] == table.to_pylist()


def test_an_arrow_stream_that_was_cut_between_two_batches_is_not_taken_for_whole(tmp_path: Path) -> None:
    import pyarrow as pa

    table = pa.table({"text": [f"row {i}" for i in range(100)]})
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    data = (tmp_path / "a.arrow").read_bytes()

    for end in (len(data) - 8, len(data) - 1, len(data) // 2, 3):
        with pytest.raises(DataError, match=r"a\.arrow (ends without the mark|is not Arrow)"):
            found(source(), file_of(tmp_path / "a.arrow", data[:end]))
    assert len(found(source(), file_of(tmp_path / "a.arrow", data))) == 100


def test_a_page_of_parquet_with_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": ["needle in a haystack"]})
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True, **options)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[data.index(b"needle")] ^= 1

    with pytest.raises(DataError, match=r"a\.parquet is not Parquet: .*CRC"):
        found(source(), file_of(tmp_path / "a.parquet", bytes(data)))


def test_bytes_and_broken_text_in_a_table_are_bad_data(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff"]).buffers())
    columns = ((pa.array([b"x"]), "holds bytes, not text"), (broken, r"a\.parquet:2 holds text that is not UTF-8"))
    for column, sentence in columns:
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        file = file_of(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
        with pytest.raises(DataError, match=sentence):
            found(source(), file)
    assert [reason for _, _, reason in found(source(bad_rows="reject"), file)] == ["", "bad UTF-8"]


# --- HTML ----------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html><head><title>Foxes</title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a> <a href="/more">More</a></nav><article><h1>Of foxes</h1>
<p>The fox is a small animal that lives in woods, in fields and at the edge of towns.</p>
<p>It eats mice &amp; berries, sleeps in a den, and is “clever” in every fable.</p></article>
<script>track()</script><footer>Imprint</footer></body></html>"""


def test_of_a_page_its_text_is_read(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    [document] = documents_of(source(), file_of(tmp_path / "a.html", PAGE), block_bytes=4096)

    assert "lives in woods" in document.text and "mice & berries" in document.text
    assert not any(word in document.text for word in ("track", "color", "Imprint", "Home"))
    assert found(source(), file_of(tmp_path / "b.htm", " ")) == [("b.htm", "", "")]


def test_without_the_package_for_pages_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)

    with pytest.raises(UnavailableError, match=r'pip install "cairn-lm\[html\]"'):
        found(source(), file_of(tmp_path / "a.html", PAGE))


# --- few documents -------------------------------------------------------------------------------------------


def test_where_the_choice_is_left_texts_may_be_cut_and_rows_never(tmp_path: Path) -> None:
    text = "one\n\ntwo\n\nthree"
    files = [file_of(tmp_path / "a.txt", text), file_of(tmp_path / "a.jsonl", json.dumps({"text": text}))]

    cut = [[d.text for d in documents_of(source(), file, block_bytes=4, cut_texts=True)] for file in files]

    assert cut == [["one", "two", "three"], [text]]
    assert [may_be_cut(source(), file) for file in files] == [True, False]
    assert not may_be_cut(source(documents="file"), files[0])
