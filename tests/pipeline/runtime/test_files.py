"""Files appear whole or not at all, and folders are looked through in one way."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime import files
from pipeline.runtime.files import (
    aside_of,
    link_or_copy,
    regular_files,
    remove_folder,
    rename_new,
    replace_text,
    replacing,
    scan,
    stamp_of,
    sync_tree,
    write_json,
)

# --- writing -------------------------------------------------------------------------------------------------


def test_text_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"

    replace_text(path, "one\n")
    replace_text(path, "zwölf")

    assert path.read_bytes() == "zwölf".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_file_that_could_not_be_replaced_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail(*arguments: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(files.os, moment, fail)
    with pytest.raises(OSError, match="the disk is full"):
        replace_text(path, "after")

    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_text_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", noted_fsync)
    monkeypatch.setattr(files.os, "replace", lambda *names: (done.append("name"), replace(*names)))

    replace_text(tmp_path / "a.txt", "text")

    assert done == ["file", "name", "folder"]


def test_json_is_canonical_or_indented_and_ends_with_a_line_end(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    write_json(tmp_path / "b.json", {"b": 1, "a": [2]}, indent=2)

    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"a":"é","b":1}\n'
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


def test_json_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"n": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"n": float("nan")})

    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}


def test_a_tree_is_flushed_from_its_leaves_to_its_root(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        files.os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )

    sync_tree(tree)

    names = [os.path.relpath(path, tree) for path in flushed]
    assert sorted(names) == [".", "a", "a/z.txt", "b.txt", "c"] and names[-1] == "."
    assert names.index("a/z.txt") < names.index("a")


def test_a_second_name_holds_the_same_bytes_also_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("bytes")
    link_or_copy(tmp_path / "a", tmp_path / "linked")

    def refuse(*names: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(files.os, "link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "copied")

    inodes = [(tmp_path / name).stat().st_ino for name in ("a", "linked", "copied")]
    assert (tmp_path / "linked").read_text() == (tmp_path / "copied").read_text() == "bytes"
    assert inodes[0] == inodes[1] != inodes[2]


# --- looking -------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files, one of them in a folder, and an empty folder."""
    root = tmp_path / "tree"
    (root / "a").mkdir(parents=True)
    (root / "c").mkdir()
    (root / "a" / "z.txt").write_text("z")
    (root / "b.txt").write_text("bb")
    return root


def test_every_entry_that_is_no_folder_is_found_links_included(tree: Path) -> None:
    (tree / "c" / "to_file").symlink_to(tree / "b.txt")
    (tree / "c" / "to_folder").symlink_to(tree / "a")
    (tree / "c" / "to_nothing").symlink_to(tree / "nowhere")
    names = ["a/z.txt", "b.txt", "c/to_file", "c/to_folder", "c/to_nothing"]

    assert sorted(str(path.relative_to(tree)) for path in regular_files(tree)) == names
    found = scan(tree)
    assert sorted(found) == names
    assert [found[name].st_size for name in names[:2]] == [1, 2]
    assert all(stat.S_ISLNK(found[name].st_mode) for name in names[2:]), "a link is not followed"


def test_files_come_in_the_same_order_however_the_folder_was_filled(tmp_path: Path) -> None:
    for i, names in enumerate((["b/2", "b/1", "a", "c"], ["c", "a", "b/1", "b/2"])):
        for name in names:
            path = tmp_path / str(i) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    first, second = ([str(p.relative_to(tmp_path / i)) for p in regular_files(tmp_path / i)] for i in "01")

    assert first == second == ["a", "c", "b/1", "b/2"]


def test_a_file_that_changed_has_another_stamp_though_its_size_and_time_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    before, status = stamp_of(path), path.stat()
    assert stamp_of(str(path)) == before

    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert path.stat().st_mtime_ns == status.st_mtime_ns and stamp_of(path) != before


# --- removing ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_removed_is_gone_before_its_first_file_is(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.shutil, "rmtree", lambda folder, ignore_errors: seen.append(folder))
    seen: list[Path] = []

    remove_folder(tree)

    [aside] = seen
    assert not tree.exists() and aside.parent == tree.parent and aside.name.startswith(".tree.")
    assert (aside / "b.txt").exists()


def test_a_removed_folder_leaves_nothing_and_one_that_is_not_there_is_no_error(tree: Path) -> None:
    remove_folder(tree)
    remove_folder(tree)

    assert list(tree.parent.iterdir()) == []


# --- made aside ----------------------------------------------------------------------------------------------


def test_a_name_aside_is_hidden_beside_what_it_is_for_and_never_the_same(tmp_path: Path) -> None:
    asides = {aside_of(tmp_path / "a.txt") for _ in range(50)}

    assert len(asides) == 50 and {path.parent for path in asides} == {tmp_path}
    assert all(path.name.startswith(".a.txt.") for path in asides)


def test_what_is_not_written_to_its_end_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    with pytest.raises(InterruptedError), replacing(path) as aside:
        aside.write_text("half")
        raise InterruptedError

    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_folder_gets_a_name_that_is_free_and_no_other(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)

    assert rename_new(tmp_path / "first", tmp_path / "final")
    assert not rename_new(tmp_path / "second", tmp_path / "final")

    assert (tmp_path / "final" / "a.txt").read_text() == "first" and (tmp_path / "second").exists()
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "none", tmp_path / "other")
