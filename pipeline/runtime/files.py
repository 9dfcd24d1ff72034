"""Machinery: durable files: write aside, flush, rename; and what is in a folder."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.runtime.hashing import JSON, canonical_json


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, then `folder` itself."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync_folder(path) if path.is_dir() else sync_file(path)
    sync_folder(folder)


def write_json(path: Path, value: JSON, *, indent: int | None = None) -> None:
    """Replace `path` by canonical (or indented) JSON in one step that a crash cannot halve."""
    text = canonical_json(value) if indent is None else json.dumps(value, indent=indent, sort_keys=True)
    replace_text(path, text + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step that a crash cannot halve."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def aside_of(path: Path) -> Path:
    """Return a name beside `path`, used by nobody else, under which it is made before it is renamed."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write; when the block ends well, that file takes the place of `path`, flushed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        yield aside
        sync_file(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def rename_new(folder: Path, final: Path) -> bool:
    """Rename a folder that was made aside onto its final name; False, and nothing done, if one is there already."""
    try:
        os.rename(folder, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def link_or_copy(path: Path, target: Path) -> None:
    """Give a file a second name, or a copy of it where the file system has no second names."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that nobody sees half of it: rename it, then delete it."""
    aside = aside_of(folder)
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield every entry below `folder` that is not a folder, links included, in sorted order."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(root, name) for name in sorted(files))
        yield from (Path(root, name) for name in folders if Path(root, name).is_symlink())


def scan(folder: Path) -> dict[str, os.stat_result]:
    """Return the status of every entry below `folder` that is not a folder, links included, by its relative path."""
    found: dict[str, os.stat_result] = {}
    waiting = [("", folder)]
    while waiting:
        prefix, place = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{prefix}{entry.name}/", Path(entry.path)))
                else:
                    found[prefix + entry.name] = entry.stat(follow_symlinks=False)
    return found


def stamp_of(path: str | Path) -> str:
    """Describe the state of a file, so that a change shows without reading it."""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
