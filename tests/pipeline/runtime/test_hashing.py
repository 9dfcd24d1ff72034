"""SHA-256 of values and of files; the canonical form of JSON is pinned in artifacts/test_identity."""

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime import hashing
from pipeline.runtime.hashing import canonical_json, digest_of, sha256_of_file, sha256_of_files

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES)
def test_canonical_json_says_the_same_however_a_table_was_filled(value: object) -> None:
    import json

    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert canonical_json(turned(value)) == canonical_json(value) and digest_of(turned(value)) == digest_of(value)
    assert json.loads(canonical_json(value)) == value


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "empty").touch()

    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert sha256_of_file(tmp_path / "empty") == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("processors", [1, 4, None])
def test_the_hashes_of_files_come_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int | None
) -> None:
    monkeypatch.setattr(hashing.os, "cpu_count", lambda: processors)
    paths = [tmp_path / str(i) for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * (100_000 if i % 3 == 0 else i))

    assert list(sha256_of_files(paths)) == [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert list(sha256_of_files([])) == []


def test_several_files_are_hashed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    monkeypatch.setattr(hashing.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(hashing, "sha256_of_file", lambda path: f"{path.name} {both.wait() in (0, 1)}")

    assert list(sha256_of_files([tmp_path / "a", tmp_path / "b"])) == ["a True", "b True"]


def test_a_file_that_is_not_there_is_an_error_and_ends_the_hashing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    with pytest.raises(FileNotFoundError):
        list(sha256_of_files([tmp_path / "a", tmp_path / "nowhere", tmp_path / "a"]))
