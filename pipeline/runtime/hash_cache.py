"""Machinery: the memory of source files' hashes: each file is hashed once, though there are a million of them."""

import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.runtime.files import stamp_of
from pipeline.runtime.hashing import sha256_of_file

_BATCH = 1000
_SECONDS = 5.0


class HashMemory:
    """Remembers the SHA-256 of files by path, size, times and inode; used as `with HashMemory(path) as known`.

    It is a shortcut and nothing more: where the store cannot be written, or the memory is damaged, files are hashed.
    New hashes are written a thousand at a time, so that other processes never wait long for the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base: sqlite3.Connection | None = None
        self._new: dict[str, tuple[str, str]] = {}
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self.path, timeout=60)
            with self._base:
                self._base.execute("CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT)")
        except (OSError, sqlite3.Error):
            self._give_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._give_up()

    def sha256(self, path: Path | str) -> str:
        """Return the SHA-256 of the file at `path`, hashing it only if it changed since last time."""
        stamp = stamp_of(path)
        key = _key(path)
        if (known := self._known(key)) and known[0] == stamp:
            return known[1]
        found = sha256_of_file(Path(path))
        self._new[key] = (stamp, found)
        if len(self._new) >= _BATCH or time.monotonic() - self._written > _SECONDS:
            self._write()
        return found

    def _known(self, key: str) -> tuple[str, str] | None:
        if key in self._new or self._base is None:
            return self._new.get(key)
        try:
            row = self._base.execute("SELECT stamp, sha256 FROM hashes WHERE path = ?", (key,)).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        return row and (str(row[0]), str(row[1]))

    def _write(self) -> None:
        rows = [(path, *known) for path, known in self._new.items()]
        self._new, self._written = {}, time.monotonic()
        if not rows or self._base is None:
            return
        try:
            with self._base:
                self._base.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", rows)
        except sqlite3.Error:
            self._give_up()

    def _give_up(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None


def _key(path: Path | str) -> str:
    """Return a file's name as the data base can hold it."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
