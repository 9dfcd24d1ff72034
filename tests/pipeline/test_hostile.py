"""What a stranger may hand us: each hostile input ends with its exit code and a sentence, or is accounted for."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def tar_of(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../etc/passwd"
            info.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zip_of(("a.txt", b"secret")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def zstd_of(data: bytes) -> bytes:
    import pyarrow as pa

    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["one", "two"]}), out)
    return out.getvalue()


TEXT = b"Some text that is longer than nothing.\n\nAnd some more of it.\n"
BOMB = b"\0" * 70 * 2**20

# name of the file, its bytes, exit code, a part of the sentence
REFUSED: dict[str, tuple[str, Callable[[], bytes], int, str]] = {
    "bad byte": ("a.txt", lambda: b"good \xe4 text", 65, "a.txt: byte 5 (0xe4) is not UTF-8"),
    "bad byte far inside": (
        "a.txt",
        lambda: b"x" * 1_048_575 + "é".encode() + b"\xff",
        65,
        "a.txt: byte 1048577 (0xff) is not UTF-8",
    ),
    "bad byte in a packed file": ("a.txt.gz", lambda: gzip.compress(b"good \xe4"), 65, "a.txt.gz: byte 5 (0xe4)"),
    "cut character": ("a.txt", lambda: b"good \xf0\x9f", 65, "a.txt: byte 5 (0xf0) is not UTF-8"),
    "utf-16": ("a.txt", lambda: "hello".encode("utf-16"), 65, "It looks like UTF-16"),
    "utf-32": ("a.txt", lambda: "hello".encode("utf-32"), 65, "It looks like UTF-32"),
    "gzip named text": ("a.txt", lambda: gzip.compress(TEXT), 65, "It looks like gzip data: rename it to end in .gz"),
    "zstd named jsonl": ("a.jsonl", lambda: zstd_of(TEXT), 65, "It looks like zstd data: rename it to end in .zst"),
    "parquet named jsonl": ("a.jsonl", parquet, 65, "It looks like Parquet: rename it to end in .parquet"),
    "text named gzip": ("a.txt.gz", lambda: TEXT, 65, "a.txt.gz is not gzip data: it does not start like it"),
    "zip named gzip": ("a.txt.gz", lambda: zip_of(("a", TEXT)), 65, "is not gzip data: it looks like a zip archive"),
    "text named parquet": ("a.parquet", lambda: TEXT, 65, "a.parquet is not Parquet: it does not start like it"),
    "text named arrow": ("a.arrow", lambda: TEXT, 65, "a.arrow is not Arrow"),
    "text named zip": ("a.zip", lambda: TEXT, 65, "a.zip is not a zip archive"),
    "text named tar": ("a.tar", lambda: TEXT * 20, 65, "a.tar is not a whole tar archive"),
    "gzip named tar": ("a.tar", lambda: gzip.compress(tar_of(("a.txt", TEXT))), 65, "it looks like gzip data"),
    "empty gzip": ("a.txt.gz", lambda: b"", 65, "a.txt.gz is not gzip data: it is empty"),
    "cut gzip": ("a.txt.gz", lambda: gzip.compress(TEXT)[:-6], 65, "a.txt.gz ends in the middle of its gzip data"),
    "cut bzip2": ("a.txt.bz2", lambda: bz2.compress(TEXT)[:-6], 65, "a.txt.bz2 ends in the middle of its bzip2 data"),
    "cut xz": ("a.txt.xz", lambda: lzma.compress(TEXT)[:-6], 65, "a.txt.xz ends in the middle of its xz data"),
    "cut zstd": ("a.txt.zst", lambda: zstd_of(TEXT)[:-6], 65, "a.txt.zst ends in the middle of its zstd data"),
    "cut zip": ("a.zip", lambda: zip_of(("a.txt", TEXT))[:-30], 65, "a.zip is not a whole zip archive"),
    "cut tar": ("a.tar", lambda: tar_of(("a.txt", TEXT * 20))[:1024], 65, "a.tar ends in the middle of the archive"),
    "cut tar in gzip": (
        "a.tgz",
        lambda: gzip.compress(tar_of(("a.txt", TEXT))[:1024]),
        65,
        "a.tgz ends in the middle of the archive",
    ),
    "cut parquet": ("a.parquet", lambda: parquet()[:-9], 65, "a.parquet is not Parquet"),
    "junk after gzip": ("a.txt.gz", lambda: gzip.compress(TEXT) + TEXT, 65, "or something else after them"),
    "gzip bomb": ("a.txt.gz", lambda: gzip.compress(BOMB), 65, "unpacks to more than 200 times its size"),
    "zip bomb": ("a.zip", lambda: zip_of(("a.txt", BOMB)), 65, "says that it unpacks to 73400320 bytes"),
    "tar bomb": (
        "a.tar.bz2",
        lambda: bz2.compress(tar_of(("a.txt", BOMB))),
        65,
        "a.tar.bz2 unpacks to more than 200 times its size",
    ),
    "absolute member": ("a.tar", lambda: tar_of(("/etc/a.txt", TEXT)), 65, "'/etc/a.txt' that would lie outside"),
    "member above": ("a.tar", lambda: tar_of(("b/../../a.txt", TEXT)), 65, "'b/../../a.txt' that would lie outside"),
    "zip member above": ("a.zip", lambda: zip_of(("../a.txt", TEXT)), 65, "'../a.txt' that would lie outside"),
    "zip member of a drive": ("a.zip", lambda: zip_of(("C:\\a.txt", TEXT)), 65, "that would lie outside"),
    "encrypted zip": ("a.zip", encrypted_zip, 65, "a.txt is encrypted"),
    "cut row": ("a.jsonl", lambda: b'{"text": "a"}\n{"text": "b', 65, "a.jsonl:2 is not a JSON object"),
    "key twice": (
        "a.jsonl",
        lambda: b'{"text": "a", "text": "b"}\n',
        65,
        "a.jsonl:1 is not a JSON object: a key stands",
    ),
    "key twice inside": ("a.jsonl", lambda: b'{"text": "a", "x": {"y": 1, "y": 2}}\n', 65, "a key stands twice"),
    "not a number": ("a.jsonl", lambda: b'{"text": "a", "x": NaN}\n', 65, "NaN is not JSON"),
    "half a surrogate pair": ("a.jsonl", lambda: b'{"text": "\\udc00"}\n', 65, "a.jsonl:1 is not a JSON object"),
    "no object": ("a.jsonl", lambda: b'["text"]\n', 65, "a.jsonl:1 is not a JSON object but list"),
    "nested too deep": ("a.jsonl", lambda: b'{"a":' * 9**5 + b"1" + b"}" * 9**5, 65, "a.jsonl:1 is not a JSON object"),
    "nested too deep in json": ("a.json", lambda: b"[" + b'{"a":' * 9**5, 65, "a.json is not JSON"),
    "json that goes on": ("a.json", lambda: b'[{"text": "a"}] [1]', 65, "a.json is not JSON: it goes on after its end"),
    "open quote": ("a.csv", lambda: b'text\n"open\n' + b"x" * 99, 65, "is not csv"),
    "a pickle": ("a.pkl", lambda: b"\x80\x04\x95", 65, "a.pkl is of a kind that cannot be read"),
    "yaml": ("a.yaml", lambda: b"!!python/object/apply:os.getcwd []", 65, "a.yaml is of a kind that cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_file_is_refused_with_a_sentence(bench: Any, tmp_path: Path, case: str) -> None:
    name, make, code, sentence = REFUSED[case]
    (tmp_path / name).write_bytes(make())

    ended = bench("pipeline.corpus", "--source", str(tmp_path / name), "--workers", "1")

    assert sentence in ended.err
    assert (ended.code, ended.out, bench.store.folders()) == (code, "", [])
    assert "Traceback" not in ended.err and "bug of ours" not in ended.err


def accounted(bench: Any, folder: Path) -> tuple[set[str], dict[str, str]]:
    """Make a corpus of a folder: its texts, and what was left out and why; rows in are rows out and rejects."""
    from pipeline.tables.arrow import read_batch

    artifact = bench.corpus(folder, "--documents", "file", "--workers", "1")
    counts = artifact.manifest.counts
    assert counts["read"] == counts["documents"] + sum(counts["rejected"].values())
    rows = [
        row
        for split in ("train", "validation")
        for path in artifact.files(f"{split}-")
        for row in read_batch(path).to_pylist()
    ]
    rejects = [row for path in artifact.files("rejects-") for row in read_batch(path).to_pylist()]
    return {row["text"] for row in rows}, {row["place"]: row["reason"] for row in rejects}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three texts that are as they should be."""
    root = tmp_path / "texts"
    root.mkdir()
    (root / "rows.jsonl").write_text("".join(json.dumps({"text": f"good {i}"}) + "\n" for i in range(3)))
    return root


GOOD = {"good 0", "good 1", "good 2"}


def test_links_hidden_files_pipes_and_what_cannot_be_read_are_accounted_for(bench: Any, folder: Path) -> None:
    (folder / ".hidden.txt").write_text("x")
    (folder / ".git").mkdir()
    (folder / "round").symlink_to(folder)
    (folder / "link.txt").symlink_to("/etc/passwd")
    (folder / "dead.txt").symlink_to("nothing")
    (folder / "empty.txt").touch()
    (folder / "program.exe").write_bytes(b"MZ")
    os.mkfifo(folder / "pipe.txt")

    assert accounted(bench, folder) == (
        GOOD,
        {
            ".hidden.txt": "hidden",
            ".git": "hidden",
            "round": "link",
            "link.txt": "link",
            "dead.txt": "link",
            "empty.txt": "empty",
            "program.exe": "file not read",
            "pipe.txt": "device",
        },
    )


def test_links_and_devices_and_archives_in_archives_are_accounted_for(bench: Any, folder: Path) -> None:
    (folder / "links.tar").write_bytes(tar_of(("link.txt", b""), kind=tarfile.SYMTYPE))
    (folder / "devices.tar").write_bytes(tar_of(("device.txt", b""), kind=tarfile.BLKTYPE))
    (folder / "outer.zip").write_bytes(zip_of(("inner.zip", zip_of(("a.txt", TEXT))), ("a.txt", b"inside")))

    assert accounted(bench, folder) == (
        GOOD | {"inside"},
        {
            "links.tar/link.txt": "link",
            "devices.tar/device.txt": "device",
            "outer.zip/inner.zip": "packed inside an archive",
        },
    )


def test_marks_control_signs_and_odd_line_ends_are_read_as_they_should_be(bench: Any, folder: Path) -> None:
    (folder / "mark.txt").write_bytes(b"\xef\xbb\xbfmarked \xef\xbb\xbfonce")
    (folder / "control.txt").write_bytes(b"nul \x00 and bell \x07")
    (folder / "ends.txt").write_bytes("a\r\nb\rc\n\u2028d\u0085e".encode())

    texts, rejects = accounted(bench, folder)

    assert texts == GOOD | {"marked \ufeffonce", "nul \x00 and bell \x07", "a\nb\nc\n\u2028d\u0085e"}
    assert rejects == {}


def test_gzip_members_put_together_are_read_to_the_last(bench: Any, folder: Path) -> None:
    (folder / "many.txt.gz").write_bytes(gzip.compress(b"first ") + gzip.compress(b"second"))

    assert accounted(bench, folder) == (GOOD | {"first second"}, {})


def test_one_long_line_takes_little_memory(tmp_path: Path) -> None:
    """A line of 300 MB is passed over by a process that may not have 300 MB more than it starts with."""
    import subprocess
    import sys

    path = tmp_path / "long.jsonl"
    with path.open("wb") as out:
        out.write(b'{"text": "first"}\n{"text": "')
        for _ in range(300):
            out.write(b"x" * 10**6)
        out.write(b'"}\n{"text": "last"}\n')
    code = (
        "import resource, sys\n"
        "from pipeline.sources.card import Source\n"
        "from pipeline.readers.documents import documents_of\n"
        "from pipeline.sources.reading_options import ReadingOptions\n"
        "from pipeline.sources.streams import SourceFile\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "file = SourceFile(name='long.jsonl', location=sys.argv[1], format='jsonl', size=1)\n"
        "source = Source(name='x', location='x', sha256='x', reading=ReadingOptions(max_document_bytes=2**24))\n"
        "found = [(d.text, d.reason) for d in documents_of(source, file, block_bytes=99)]\n"
        "print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    found, _, kibibytes = done.stdout.strip().rpartition(" ")
    assert found == "[('first', ''), ('', 'longer than max_document_bytes'), ('last', '')]"
    assert int(kibibytes) < 4 * 2**14
