"""Members of a tar archive are read from a stream, and what is cut or damaged is an error."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.readers.documents import documents_of
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources.card import Source
from pipeline.sources.document import Document
from pipeline.sources.formats import kind_of
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile


def tar(members: dict[str, bytes], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def write(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    kind = kind_of(path.name)
    format_ = "" if kind.archive else kind.format
    sha256 = sha256_of_file(path)
    return SourceFile(name=path.name, location=str(path), format=format_, size=len(data), sha256=sha256)


def source(**about: Any) -> Source:
    """Return a source whose files are read with these options."""
    return Source(name="test", location="x", sha256="x", reading=ReadingOptions(**about))


def read(file: SourceFile, **about: Any) -> list[Document]:
    return list(documents_of(source(**about), file, block_bytes=4096))


def test_a_sparse_member_is_left_out_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "holes.txt").write_bytes(b"")
    os.truncate(tmp_path / "holes.txt", 2**20)
    (tmp_path / "next.txt").write_text("next")
    status = os.system(f"cd {tmp_path} && tar --sparse -cf x.tar holes.txt next.txt")
    if status:
        pytest.skip("there is no GNU tar here")
    data = (tmp_path / "x.tar").read_bytes()

    found = read(write(tmp_path / "x.tar", data))

    assert [(d.text, d.reason) for d in found] == [("", "sparse file"), ("next", "")]


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33

    with pytest.raises(DataError, match="has a header of 8589934592 bytes"):
        read(write(tmp_path / "a.tar", info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)))


def test_a_tar_archive_cut_anywhere_is_never_taken_for_whole(tmp_path: Path) -> None:
    data = tar({"a.txt": b"a" * 700, "b.txt": b"b"})
    end = len(data.rstrip(b"\0"))
    for cut in range(0, end, 37):
        with pytest.raises(DataError, match=r"a\.tar (ends in the middle|is not a tar|is not a whole)"):
            read(write(tmp_path / "a.tar", data[:cut]))


def test_archives_put_together_are_not_read_by_half(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tar goes on after its end"):
        read(write(tmp_path / "a.tar", tar({"a.txt": b"a"}) + tar({"b.txt": b"b"})))


def test_a_flipped_bit_in_a_tar_header_is_noticed(tmp_path: Path) -> None:
    data = bytearray(tar({"a.txt": b"a", "b.txt": b"b"}))
    data[data.index(b"b.txt")] ^= 1

    with pytest.raises(DataError, match=r"a\.tar is not a whole tar archive: bad checksum"):
        read(write(tmp_path / "a.tar", bytes(data)))
