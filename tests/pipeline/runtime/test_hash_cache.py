"""A file is hashed once, and what is remembered of it is never believed too long."""

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from pipeline.runtime import hash_cache
from pipeline.runtime.hash_cache import HashMemory
from pipeline.runtime.hashing import sha256_of_file


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are hashed from now on."""
    seen: list[Path] = []

    def counted(path: Path) -> str:
        seen.append(path)
        return sha256_of_file(path)

    monkeypatch.setattr(hash_cache, "sha256_of_file", counted)
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of five bytes."""
    path = tmp_path / "b.txt"
    path.write_text("b.txt")
    return path


def test_a_file_is_hashed_once_also_by_a_memory_that_is_opened_later(path: Path, hashed: list[Path]) -> None:
    base = path.parent / "deep" / "hashes.sqlite"
    for _ in range(2):
        with HashMemory(base) as memory:
            assert {memory.sha256(path), memory.sha256(str(path))} == {hashlib.sha256(b"b.txt").hexdigest()}
    assert hashed == [path]


def test_a_changed_file_is_hashed_again_though_its_time_is_as_before(path: Path, hashed: list[Path]) -> None:
    with HashMemory(path.parent / "hashes.sqlite") as memory:
        before, status = memory.sha256(path), path.stat()
        path.write_text("B.TXT")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert memory.sha256(path) == hashlib.sha256(b"B.TXT").hexdigest() != before
    assert len(hashed) == 2


def test_a_name_that_is_no_utf8_is_remembered(tmp_path: Path, hashed: list[Path]) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.txt"))
    odd.write_text("text")
    for _ in range(2):
        with HashMemory(tmp_path / "hashes.sqlite") as memory:
            memory.sha256(odd)
    assert hashed == [odd]


def test_a_memory_that_is_damaged_is_done_without(path: Path, hashed: list[Path]) -> None:
    base = path.parent / "hashes.sqlite"
    base.write_bytes(b"no data base" * 100)

    with HashMemory(base) as memory:
        assert memory.sha256(path) == sha256_of_file(path)
        assert memory.sha256(path) == sha256_of_file(path)
    assert hashed == [path], "what it hashed itself it knows all the same"


def test_a_memory_that_is_damaged_meanwhile_is_done_without(path: Path) -> None:
    base = path.parent / "hashes.sqlite"
    with HashMemory(base) as memory:
        with sqlite3.connect(base) as other:
            other.execute("DROP TABLE hashes")
        other.close()

        assert memory.sha256(path) == sha256_of_file(path)


def test_a_store_that_cannot_be_written_has_no_memory_and_hashes_all_the_same(path: Path) -> None:
    with HashMemory(path / "hashes.sqlite") as memory:
        assert memory.sha256(path) == sha256_of_file(path)


def test_hashes_are_written_together_and_also_when_the_work_is_broken_off(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_cache, "_BATCH", 4)
    paths = [tmp_path / f"{i}.txt" for i in range(10)]
    for path in paths:
        path.write_text(path.name)
    with pytest.raises(KeyboardInterrupt), HashMemory(tmp_path / "hashes.sqlite") as memory:
        for path in paths[:6]:
            memory.sha256(path)
        raise KeyboardInterrupt
    with HashMemory(tmp_path / "hashes.sqlite") as memory:
        assert [memory.sha256(path) for path in paths] == [sha256_of_file(path) for path in paths]

    assert hashed[:10] == [*paths[:6], *paths[6:]]


def test_another_process_sees_hashes_that_were_written_before_the_end(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_cache, "_BATCH", 2)
    paths = [tmp_path / f"{i}.txt" for i in range(3)]
    for path in paths:
        path.write_text(path.name)
    with HashMemory(tmp_path / "hashes.sqlite") as memory, HashMemory(tmp_path / "hashes.sqlite") as other:
        for path in paths:
            memory.sha256(path)
        hashed.clear()

        assert {other.sha256(path) for path in paths} == set(map(sha256_of_file, paths))
    assert hashed == paths[2:]
