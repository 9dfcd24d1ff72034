"""Files inside others are streamed, one after the other, and never unpacked to disk."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import DataError, IntegrityError
from pipeline.readers.documents import documents_of
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources import archives
from pipeline.sources.archives import opened_files
from pipeline.sources.card import Source
from pipeline.sources.document import Document
from pipeline.sources.formats import kind_of
from pipeline.sources.listing import open_source, source_of_path
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile

ROWS = [{"text": f"Row {i}: “naïve” 🦊."} for i in range(50)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


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


def tar(members: dict[str, bytes], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def write(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    kind = kind_of(path.name)
    format_ = "" if kind.archive else kind.format
    sha256 = sha256_of_file(path)
    return SourceFile(name=path.name, location=str(path), format=format_, size=len(data), sha256=sha256)


def source(*, without: Any = None, exclude: tuple[str, ...] = (), **reading: Any) -> Source:
    options = ReadingOptions(**reading)
    return Source(name="test", location="x", sha256="x", reading=options, without=without or {}, exclude=exclude)


def read(file: SourceFile, **about: Any) -> list[Document]:
    return list(documents_of(source(**about), file, block_bytes=4096))


def opened(path: Path, data: bytes, **about: Any) -> list[Document]:
    """Read a file as a source of a person's own, zip archives listed by member."""
    path.write_bytes(data)
    store = Store(path.parent / "store")
    found = source_of_path(path, store)
    about_it = source(**about, documents="file") if not about else source(**about)
    return [d for file in open_source(found, store) for d in documents_of(about_it, file, block_bytes=4096)]


TEXTS = [row["text"] for row in ROWS]


# --- what is inside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar", ".tgz", *(f".tar{suffix}" for suffix in PACK)])
@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_a_tar_archive_are_read_in_their_order(tmp_path: Path, suffix: str, format_: int) -> None:
    long = "/".join(["a folder with a long name"] * 5 + ["ünder.txt"])
    data = tar({"b.jsonl": JSONL, f"./{long}": "Größe".encode(), "a.txt": b""}, format=format_)
    pack = PACK.get("." + suffix.split(".")[-1].replace("tgz", "gz"), bytes)

    found = read(write(tmp_path / f"all{suffix}", pack(data)))

    assert [d.text for d in found] == [*TEXTS, "Größe", ""]
    assert [d.place for d in found][-3:] == [f"all{suffix}/b.jsonl:50", f"all{suffix}/{long}", f"all{suffix}/a.txt"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_a_zip_archive_are_read_by_name(tmp_path: Path, method: int) -> None:
    found = opened(tmp_path / "all.zip", zip_({"b.jsonl": JSONL, "deep/a.txt": "Größe".encode()}, method))

    assert [d.text for d in found] == [*TEXTS, "Größe"]
    assert found[0].place == "all.zip/b.jsonl:1" and found[-1].place == "all.zip/deep/a.txt"


@pytest.mark.parametrize("suffix", [*PACK, ".tar", ".zip"])
def test_parquet_and_arrow_are_read_inside_of_any_container(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    files = {name: io.BytesIO() for name in ("a.parquet", "b.arrow", "c.arrow")}
    pq.write_table(table, files["a.parquet"])
    with pa.ipc.new_file(files["b.arrow"], table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    with pa.ipc.new_stream(files["c.arrow"], table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    for name, data in files.items():
        inside = f"all-{name}{suffix}" if suffix in (".tar", ".zip") else f"{name}{suffix}"
        made = tar if suffix == ".tar" else zip_
        packed = PACK[suffix](data.getvalue()) if suffix in PACK else made({name: data.getvalue()})

        assert [d.text for d in opened(tmp_path / inside, packed)] == TEXTS


def test_nothing_is_written_while_archives_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / "a.tar.gz", gzip.compress(tar({"b.jsonl": JSONL}))), write(tmp_path / "c.gz", b"")]
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert len(read(files[0])) == 50
    assert sorted(tmp_path.rglob("*")) == before


# --- what is not read is accounted for -----------------------------------------------------------------------


def odd_tar() -> Iterator[tarfile.TarInfo]:
    for name, type_ in (
        ("folder", tarfile.DIRTYPE),
        ("link.txt", tarfile.SYMTYPE),
        ("hard.txt", tarfile.LNKTYPE),
        ("device.txt", tarfile.CHRTYPE),
        ("pipe.txt", tarfile.FIFOTYPE),
        (".hidden.txt", tarfile.REGTYPE),
        ("__MACOSX/a.txt", tarfile.REGTYPE),
        ("picture.png", tarfile.REGTYPE),
        ("inner.zip", tarfile.REGTYPE),
        ("inner.jsonl.gz", tarfile.REGTYPE),
        ("skip/me.txt", tarfile.REGTYPE),
        ("a.txt", tarfile.REGTYPE),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = type_, "/etc/passwd"
        yield info


EXPECTED = {
    "link.txt": "link",
    "hard.txt": "link",
    "device.txt": "device",
    "pipe.txt": "device",
    ".hidden.txt": "hidden",
    "__MACOSX/a.txt": "hidden",
    "picture.png": "file not read",
    "inner.zip": "packed inside an archive",
    "inner.jsonl.gz": "packed inside an archive",
    "skip/me.txt": "left out by the card",
    "a.txt": "",
}


def test_members_of_a_tar_archive_that_are_not_read_say_why(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in odd_tar():
            archive.addfile(info)

    found = read(write(tmp_path / "x.tar", out.getvalue()), exclude=("skip/*",))

    assert {document.place.removeprefix("x.tar/"): document.reason for document in found} == EXPECTED


def test_members_of_a_zip_archive_that_are_not_read_say_why(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.mkdir("folder")
        for info in odd_tar():
            member = zipfile.ZipInfo(info.name)
            member.external_attr = (0o120777 if info.issym() else 0o100644) << 16
            if info.type not in (tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
                archive.writestr(member, b"x")
    (tmp_path / "x.zip").write_bytes(out.getvalue())
    store = Store(tmp_path / "store")
    about = source_of_path(tmp_path / "x.zip", store)

    files = open_source(Source(**{**vars(about), "exclude": ("skip/*",)}), store)

    gone = ("hard.txt", "device.txt", "pipe.txt")
    assert {file.name.removeprefix("x.zip/"): file.unread for file in files} == {
        name: reason for name, reason in EXPECTED.items() if name not in gone
    }


# --- limits --------------------------------------------------------------------------------------------------


def test_a_zip_bomb_is_noticed_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 2**22)

    with pytest.raises(DataError, match="says that it unpacks to 33554432 bytes, more than 200 times"):
        opened(tmp_path / "a.zip", zip_({"a.txt": bytes(2**25)}))


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    members = {f"{i}.txt": b"x" for i in range(4)}

    with pytest.raises(DataError, match=rf"{name} has (more than 3|4) members"):
        opened(tmp_path / name, (tar if name == "a.tar" else zip_)(members))


# --- changed, cut, damaged -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.tar", "a.zip"])
def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path: Path, name: str) -> None:
    pack = {"a.txt": bytes, "a.txt.gz": gzip.compress, "a.tar": lambda d: tar({"a.txt": d}), "a.zip": None}[name]
    pack = pack or (lambda d: zip_({"a.txt": d}))
    (tmp_path / name).write_bytes(pack(b"Before."))
    store = Store(tmp_path / "store")
    [file] = open_source(source_of_path(tmp_path / name, store), store)
    (tmp_path / name).write_bytes(pack(b"Behind."))

    with pytest.raises(IntegrityError, match="was changed while it was being read"):
        read(file)


def test_a_table_that_changes_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["before"]}), tmp_path / "a.parquet")
    store = Store(tmp_path / "store")
    [file] = open_source(source_of_path(tmp_path / "a.parquet", store), store)
    pq.write_table(pa.table({"text": ["behind"]}), tmp_path / "a.parquet")

    with pytest.raises(IntegrityError, match="was changed while it was being read"):
        read(file)


def test_a_flipped_bit_in_a_zip_member_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zip_({"a.txt": b"Some text."}, zipfile.ZIP_STORED))
    data[data.index(b"Some")] ^= 1

    with pytest.raises(DataError, match=r"a\.zip/a\.txt is damaged: Bad CRC-32"):
        opened(tmp_path / "a.zip", bytes(data))


def test_a_reader_that_stops_early_is_not_held_against_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl.gz", gzip.compress(JSONL))

    first = next(iter(documents_of(source(), file, block_bytes=99)))

    assert first.text == TEXTS[0]
    assert [one.name for one in opened_files(source(), file) if not isinstance(one, Document)] == ["a.jsonl.gz"]
