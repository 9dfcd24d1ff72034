"""Bytes are unpacked and brought to UTF-8 as they are read; what is cut, damaged or a bomb is refused."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.readers.documents import documents_of
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources import streams
from pipeline.sources.card import Source
from pipeline.sources.document import Document
from pipeline.sources.formats import FORMATS, kind_of
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile

ROWS = [{"text": f"Row {i}: “naïve” 🦊."} for i in range(50)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TEXTS = [row["text"] for row in ROWS]


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def write(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    kind = kind_of(path.name)
    format_ = "" if kind.archive else kind.format
    sha256 = sha256_of_file(path)
    return SourceFile(name=path.name, location=str(path), format=format_, size=len(data), sha256=sha256)


def file_of(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(name=path.name, location=str(path), format=FORMATS[path.suffix], size=path.stat().st_size)


def source(**about: Any) -> Source:
    """Return a source whose files are read with these options."""
    return Source(name="test", location="x", sha256="x", reading=ReadingOptions(**about))


def found(about: Source, file: SourceFile) -> list[tuple[str, str, str]]:
    return [(d.place, d.text, d.reason) for d in documents_of(about, file, block_bytes=4096)]


def read(file: SourceFile, **about: Any) -> list[Document]:
    return list(documents_of(source(**about), file, block_bytes=4096))


# --- unpacking -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", PACK)
def test_a_compressed_file_is_what_it_stands_for(tmp_path: Path, suffix: str) -> None:
    found = read(write(tmp_path / f"a.jsonl{suffix}", PACK[suffix](JSONL)))

    assert [document.text for document in found] == TEXTS
    assert found[0].place == f"a.jsonl{suffix}:1"


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_data_put_together_are_read_to_the_last(tmp_path: Path, suffix: str) -> None:
    half = JSONL.index(b"\n", len(JSONL) // 2) - 3  # in the middle of a row
    data = PACK[suffix](JSONL[:half]) + PACK[suffix](b"") + PACK[suffix](JSONL[half:])

    assert [document.text for document in read(write(tmp_path / f"a.jsonl{suffix}", data))] == TEXTS


def test_zeros_between_and_after_gzip_members_are_padding(tmp_path: Path) -> None:
    data = gzip.compress(b"one ") + bytes(700) + gzip.compress(b"two") + bytes(99_999)

    assert [document.text for document in read(write(tmp_path / "a.txt.gz", data))] == ["one two"]


def test_a_million_bytes_of_one_letter_are_read_though_they_pack_well(tmp_path: Path) -> None:
    [document] = read(write(tmp_path / "a.txt.gz", gzip.compress(b"a" * 1_000_000)))

    assert len(document.text) == 1_000_000


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_noticed_before_it_is_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_FROM_BYTES", 2**22)
    file = write(tmp_path / f"a.txt{suffix}", PACK[suffix](bytes(2**25)))

    with pytest.raises(DataError, match=rf"a\.txt{suffix} unpacks to more than 200 times its size"):
        read(file)


def test_a_dictionary_that_wants_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    data = lzma.compress(b"text", filters=filters)

    with pytest.raises(DataError, match=r"a\.txt\.xz holds damaged xz data.*[Mm]emory"):
        read(write(tmp_path / "a.txt.xz", data))


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_data_cut_anywhere_are_never_taken_for_whole(tmp_path: Path, suffix: str) -> None:
    data = PACK[suffix](b"Some text that is packed.")
    for cut in range(len(data)):
        file = write(tmp_path / f"a.txt{suffix}", data[:cut])
        with pytest.raises(DataError, match=rf"a\.txt{suffix} "):
            read(file)


@pytest.mark.parametrize("suffix", PACK)
def test_something_behind_compressed_data_is_not_dropped(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="or something else after them|damaged zstd data"):
        read(write(tmp_path / f"a.txt{suffix}", PACK[suffix](b"text") + b"more text that is not packed"))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_flipped_bit_in_compressed_data_is_noticed(tmp_path: Path, suffix: str, flip: Callable[[Path], None]) -> None:
    write(tmp_path / f"a.jsonl{suffix}", PACK[suffix](JSONL * 20))
    flip(tmp_path / f"a.jsonl{suffix}")
    file = write(tmp_path / f"a.jsonl{suffix}", (tmp_path / f"a.jsonl{suffix}").read_bytes())

    with pytest.raises(DataError):
        read(file)


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
