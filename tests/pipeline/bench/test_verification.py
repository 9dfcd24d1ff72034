"""The benches of verifying an artifact and of opening many shards."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.bench import verification
from pipeline.bench.verification import _artifact_of, _open, paths_of, verify


def test_an_artifact_to_verify_is_published_whole(tmp_path: Path) -> None:
    made = _artifact_of(100_000, Store(tmp_path / "store"))
    assert made.verify(rehash=True) == 100_000


def test_its_bytes_are_cut_into_files_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_FILE_BYTES", 30_000)

    one, two = (_artifact_of(100_000, Store(tmp_path / name)) for name in "ab")

    assert [entry.size for entry in one.manifest.files] == [30_000, 30_000, 30_000, 10_000]
    assert one.digest == two.digest
    assert paths_of(one) == [str(path) for path in one.files()]


def test_both_hash_every_byte_in_every_run(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier check remembered would make ours look faster than it is."""
    hashed: list[str] = []
    digest = hashlib.file_digest

    def counted(file: Any, name: Any) -> Any:
        hashed.append(Path(file.name).name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    session.repeats = 2

    [row] = verify(session)

    # publishing hashes once; then to fill the page cache, two runs of each, and the machine's rate of three
    assert hashed == ["train-00000.arrow"] * (1 + 1 + 4 + 3)
    assert row.name == "first verification of 0.04 MB" and row.ours and row.peer_value and row.ratio


def test_shards_are_opened_as_training_does_and_damaged_ones_are_not(chain: Any, flip: Any) -> None:
    _open(chain.bench.store, chain.shards.reference)

    flip(chain.shards.files("train-")[0])

    with pytest.raises(Exception, match="has sha256"):
        _open(chain.bench.store, chain.shards.reference)
