"""Lines, CSV, TSV and YAML become rows; the first bad byte, line or row is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.readers.documents import documents_of, rows_of
from pipeline.readers.text_rows import BadRow, decode, lines_of, reject_or_raise
from pipeline.sources.archives import OpenedFile
from pipeline.sources.card import Source
from pipeline.sources.document import Document
from pipeline.sources.formats import FORMATS
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(**about: Any) -> Source:
    """Return a source whose files are read with these options."""
    return Source(name="test", location="x", sha256="x", reading=ReadingOptions(**about))


def found(about: Source, file: SourceFile) -> list[tuple[str, str, str]]:
    return [(d.place, d.text, d.reason) for d in documents_of(about, file, block_bytes=4096)]


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


def test_the_first_bad_byte_of_a_long_text_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.readers import text_rows as rows_module

    monkeypatch.setattr(rows_module, "READ_BYTES", 7)
    data = "é日🦊".encode() * 50

    with pytest.raises(DataError, match=rf"a\.txt: byte {len(data)} \(0xff\) is not UTF-8"):
        found(source(), file_of(tmp_path / "a.txt", data + b"\xff" + data))


# --- rows ----------------------------------------------------------------------------------------------------


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


def test_a_csv_field_whose_quotation_mark_is_never_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.csv", 'text\n"open\n' + "x" * 400 + "\n" + "y" * 700 + "\n")

    with pytest.raises(DataError, match=r"a\.csv:4 is in a row that is longer than max_document_bytes .*mark open"):
        list(documents_of(source(max_document_bytes=1000), file, block_bytes=9))


def test_lines_are_numbered_and_the_long_ones_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'one\n"' + b"x" * 20 + b'"\n\ntwo')

    with (tmp_path / "a.jsonl").open("rb") as stream:
        opened = OpenedFile("a.jsonl", "jsonl", stream, line=10, offset=100)
        lines = [(line.number, line.offset, line.data, line.quotes) for line in lines_of(opened, 8)]

    assert lines == [(11, 100, b"one\n", 0), (12, 104, None, 2), (13, 127, b"\n", 0), (14, 128, b"two", 0)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_may_end_its_lines_in_any_way(tmp_path: Path, end: str) -> None:
    file = file_of(tmp_path / "a.csv", f'id,text{end}1,a{end}2,"b{end}c"{end}')

    rows = [row for _, row in rows_of(source(), file)]

    assert rows[0] == {"id": "1", "text": "a"}
    assert rows[1]["text"].split() == ["b", "c"]


def test_a_table_needs_different_columns_and_as_many_fields(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:1 names a column twice: id, id"):
        list(rows_of(source(), file_of(tmp_path / "a.csv", "id,id\n1,2\n")))
    with pytest.raises(DataError, match=r"a\.tsv:2 has 1 fields where 2 are expected \(id, text\)"):
        list(rows_of(source(), file_of(tmp_path / "a.tsv", "id\ttext\n1\n")))


def test_a_bad_line_inside_of_a_row_of_several_is_not_left_out_alone(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.csv", b'text,n\n"open\n\xff\n",1\n')

    with pytest.raises(DataError, match=r"a\.csv:3: a line that cannot be used \(bad UTF-8\) is part of a row"):
        list(rows_of(source(bad_rows="reject"), file))


def test_a_conversation_of_one_utterance_is_left_out_when_that_is_asked_for(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.yml", "conversations:\n- - Hi\n- - Who?\n  - Me.\n")

    assert list(rows_of(source(bad_rows="reject"), file)) == [
        Document("['Hi']", "a.yml:1", "not a conversation"),
        ("a.yml:2", {"prompt": "Who?", "reply": "Me."}),
    ]
    with pytest.raises(DataError, match=r"a\.yml: conversation 1 is not a list of at least two utterances"):
        list(rows_of(source(), file))


def test_what_is_read_as_a_whole_has_a_limit(tmp_path: Path) -> None:
    file = file_of(tmp_path / "a.yml", "conversations: []\n" + "#" * 100)

    with pytest.raises(DataError, match=r"a\.yml is longer than max_document_bytes \(50\), and yaml_conversations"):
        list(rows_of(source(max_document_bytes=50), file))


def test_an_error_is_raised_or_becomes_the_reason_of_a_reject() -> None:
    error = BadRow("here is no row", "no row")

    assert reject_or_raise(ReadingOptions(bad_rows="reject"), "a:1", error, "x" * 900) == Document(
        "x" * 200, "a:1", "no row"
    )
    with pytest.raises(BadRow, match="here is no row"):
        reject_or_raise(ReadingOptions(), "a:1", error, "")
