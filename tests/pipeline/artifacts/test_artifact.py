"""Every payload file is what the manifest says when it is used."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import artifact as artifact_module
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import IntegrityError
from pipeline.runtime import hashing
from pipeline.runtime.hashing import sha256_of_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def artifact(publish: Callable[..., Artifact], store: Store) -> Artifact:
    return publish(store, {"a.txt": "hello", "deep/b.txt": "world", "page.json": '{"n": 1}'})


def open_payload(artifact: Artifact) -> None:
    """Give write permission back, as an intruder with a shell would."""
    for path in [artifact.payload, *artifact.payload.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_whole_artifact_verifies_and_says_how_many_bytes_it_has(artifact: Artifact) -> None:
    assert artifact.verify(rehash=True) == len("hello") + len("world") + len('{"n": 1}')


def test_files_are_found_by_prefix_in_sorted_order(artifact: Artifact) -> None:
    assert artifact.files() == [artifact.payload / name for name in ("a.txt", "deep/b.txt", "page.json")]
    assert artifact.files("deep/") == [artifact.payload / "deep/b.txt"]
    assert artifact.read_json("page.json") == {"n": 1}


@pytest.mark.parametrize("name", ["a.txt", "deep/b.txt"])
def test_one_flipped_bit_is_seen_and_the_file_and_the_cure_are_named(
    artifact: Artifact, store: Store, flip: Callable[[Path], None], name: str
) -> None:
    flip(artifact.payload / name)

    with pytest.raises(IntegrityError, match=f"{name} has sha256 .*artifacts repair {artifact.short}"):
        store.find(artifact.reference).verify()


def test_a_flipped_file_is_refused_when_it_is_touched_and_its_neighbours_are_not(
    artifact: Artifact, store: Store, flip: Callable[[Path], None]
) -> None:
    flip(artifact.payload / "a.txt")
    opened = store.find(artifact.reference)

    assert opened.file("deep/b.txt").read_text() == "world"
    with pytest.raises(IntegrityError, match=r"a\.txt"):
        opened.file("a.txt")


def test_a_file_that_is_not_declared_is_refused(artifact: Artifact, store: Store) -> None:
    open_payload(artifact)
    (artifact.payload / "deep" / "extra.txt").write_text("boo")

    with pytest.raises(IntegrityError, match=r"deep/extra\.txt is not declared"):
        store.find(artifact.reference).verify()


def test_a_missing_file_is_refused(artifact: Artifact, store: Store) -> None:
    open_payload(artifact)
    (artifact.payload / "a.txt").unlink()

    with pytest.raises(IntegrityError, match=r"a\.txt is missing"):
        store.find(artifact.reference).verify()


def test_a_cut_file_is_refused_by_its_size(artifact: Artifact, store: Store) -> None:
    open_payload(artifact)
    (artifact.payload / "a.txt").write_text("hell")

    with pytest.raises(IntegrityError, match=r"a\.txt has 4 bytes instead of 5"):
        store.find(artifact.reference).verify()


def test_a_link_to_the_very_bytes_is_refused(artifact: Artifact, store: Store, tmp_path: Path) -> None:
    open_payload(artifact)
    twin = tmp_path / "twin.txt"
    twin.write_text("hello")
    (artifact.payload / "a.txt").unlink()
    (artifact.payload / "a.txt").symlink_to(twin)

    with pytest.raises(IntegrityError, match=r"a\.txt is not a regular file"):
        store.find(artifact.reference).verify()


def test_a_link_to_a_folder_is_refused(artifact: Artifact, store: Store, tmp_path: Path) -> None:
    open_payload(artifact)
    (artifact.payload / "more").symlink_to(tmp_path)

    with pytest.raises(IntegrityError, match="more is not declared"):
        store.find(artifact.reference).verify()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    names: list[str] = []

    def counted(path: Path) -> str:
        names.append(path.name)
        return sha256_of_file(path)

    monkeypatch.setattr(hashing, "sha256_of_file", counted)
    return names


def test_a_second_check_does_not_hash_again(artifact: Artifact, store: Store, hashed: list[str]) -> None:
    store.find(artifact.reference).verify()
    first = sorted(hashed)
    store.find(artifact.reference).verify()

    assert first == sorted(hashed) == ["a.txt", "b.txt", "page.json"]


def test_rehash_hashes_every_file_whatever_is_remembered(artifact: Artifact, store: Store, hashed: list[str]) -> None:
    store.find(artifact.reference).verify()
    hashed.clear()

    store.find(artifact.reference).verify(rehash=True)

    assert sorted(hashed) == ["a.txt", "b.txt", "page.json"]


def test_what_was_hashed_is_written_down_once_for_all_files_together(
    artifact: Artifact, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    replace_text = artifact_module.replace_text
    monkeypatch.setattr(
        artifact_module, "replace_text", lambda path, text: written.append(path) or replace_text(path, text)
    )

    for rehash in (False, True, False):
        store.find(artifact.reference).verify(rehash=rehash)

    assert written == 2 * [store.find(artifact.reference).stamps], "the third check had nothing to write"


def test_a_check_of_known_files_looks_at_the_folder_and_not_at_one_file_after_the_other(
    artifact: Artifact, store: Store, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    store.find(artifact.reference).verify()
    hashed.clear()
    asked: list[Path] = []
    opened = store.find(artifact.reference)
    monkeypatch.setattr(artifact_module, "_status_of", lambda path: asked.append(path))
    monkeypatch.setattr(Path, "lstat", lambda path: asked.append(path))

    assert opened.verify() == len("hello") + len("world") + len('{"n": 1}')
    assert (asked, hashed) == ([], [])


def test_an_artifact_says_what_it_declares_without_looking(artifact: Artifact) -> None:
    assert artifact.has("deep/b.txt") and not artifact.has("b.txt")


def test_a_changed_file_is_seen_though_its_size_and_modification_time_are_as_before(
    artifact: Artifact, store: Store, flip: Callable[[Path], None]
) -> None:
    store.find(artifact.reference).verify()
    path = artifact.payload / "a.txt"
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns

    with pytest.raises(IntegrityError, match=r"a\.txt has sha256"):
        store.find(artifact.reference).verify()


def test_stamps_of_other_bytes_are_not_believed(artifact: Artifact, store: Store, hashed: list[str]) -> None:
    store.find(artifact.reference).verify()
    stamps = store.find(artifact.reference).stamps
    assert stamps is not None
    stamps.write_text(json.dumps({**json.loads(stamps.read_text()), "digest": "0" * 64}))
    hashed.clear()

    store.find(artifact.reference).verify()

    assert sorted(hashed) == ["a.txt", "b.txt", "page.json"]


def test_a_copy_outside_its_store_leaves_no_stamps_behind(
    artifact: Artifact, store: Store, tmp_path: Path, hashed: list[str]
) -> None:
    copy = tmp_path / "copy"
    artifact.path.rename(copy)

    store.find(str(copy)).verify()
    store.find(str(copy)).verify()

    assert sorted(hashed) == sorted(2 * ["a.txt", "b.txt", "page.json"])
