"""Lines, CSV, TSV and YAML become rows; the first bad byte, line or row is named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.readers.documents import documents_of, rows_of
from pipeline.readers.text_rows import decode
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
