"""Machinery: one published artifact, opened for reading; every file is checked before it is used."""

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.manifest import PAYLOAD, RECORD, FileEntry, InputName, Manifest, read_manifest
from pipeline.artifacts.old_names import facts_of
from pipeline.errors import IntegrityError
from pipeline.runtime.files import replace_text, scan
from pipeline.runtime.hashing import Page, canonical_json, sha256_of_files


@dataclass(frozen=True)
class Artifact:
    """An immutable folder: manifest.json, payload/, record/, README.md.

    `stamps` is where the store remembers which files it has hashed; None hashes every time.
    """

    path: Path
    manifest: Manifest
    stamps: Path | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: Path, stamps: Path | None = None) -> "Artifact":
        """Open the folder at `path`; the manifest is checked now, each file when it is first touched."""
        return cls(path=path, manifest=read_manifest(path), stamps=stamps)

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def facts(self) -> Page:
        """What those who use the artifact rely on, by the names of today."""
        return facts_of(self.kind, self.manifest.facts)

    @property
    def reference(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def short(self) -> str:
        return f"{self.kind}:{self.id[:SHORT]}"

    @property
    def payload(self) -> Path:
        return self.path / PAYLOAD

    @property
    def record(self) -> Path:
        return self.path / RECORD

    @property
    def name(self) -> InputName:
        """How a manifest made from this artifact names it."""
        return InputName(kind=self.kind, id=self.id, digest=self.digest)

    def has(self, path: str) -> bool:
        """Tell whether the manifest declares the payload file `path`."""
        return path in self._entries

    def file(self, path: str) -> Path:
        """Return the checked payload file `path`."""
        self._check([(self._entries[path], _status_of(self.payload / path))])
        return self.payload / path

    def files(self, prefix: str = "") -> list[Path]:
        """Return the checked payload files whose path starts with `prefix`, sorted."""
        paths = [path for path in sorted(self._entries) if path.startswith(prefix)]
        self._check([(self._entries[path], _status_of(self.payload / path)) for path in paths])
        return [self.payload / path for path in paths]

    def read_json(self, path: str) -> Any:
        return json.loads(self.file(path).read_text(encoding="utf-8"))

    def verify(self, *, rehash: bool = False) -> int:
        """Check that the payload is exactly what the manifest declares and return the bytes checked.

        `rehash` ignores what earlier checks remembered.  Raises IntegrityError naming the first bad file.
        """
        present = scan(self.payload)
        for path in sorted(set(present) - set(self._entries)):
            raise self._mismatch(self.payload / path, "is not declared in its manifest")
        self._check([(entry, present.get(entry.path)) for entry in self.manifest.files], rehash=rehash)
        return sum(entry.size for entry in self.manifest.files)

    @cached_property
    def _entries(self) -> dict[str, FileEntry]:
        return {entry.path: entry for entry in self.manifest.files}

    def _check(self, files: Sequence[tuple[FileEntry, os.stat_result | None]], *, rehash: bool = False) -> None:
        """Raise IntegrityError unless each file is what its entry says, hashing those that no stamp vouches for."""
        unknown: list[tuple[FileEntry, list[int]]] = []
        for entry, status in files:
            path = self.payload / entry.path
            if status is None:
                raise self._mismatch(path, "is missing")
            if not stat.S_ISREG(status.st_mode):
                raise self._mismatch(path, "is not a regular file")
            # The change time cannot be set by a program, so an edit that restores the modification time is seen too.
            stamp = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            if not rehash and self._known_stamps.get(entry.path) == stamp:
                continue
            if status.st_size != entry.size:
                raise self._mismatch(path, f"has {status.st_size} bytes instead of {entry.size}")
            unknown.append((entry, stamp))
        hashes = sha256_of_files([self.payload / entry.path for entry, _ in unknown])
        for (entry, stamp), found in zip(unknown, hashes, strict=True):
            if found != entry.sha256:
                path = self.payload / entry.path
                raise self._mismatch(path, f"has sha256 {found[:SHORT]} instead of {entry.sha256[:SHORT]}")
            self._known_stamps[entry.path] = stamp
        if unknown:
            self._remember()

    @cached_property
    def _known_stamps(self) -> dict[str, list[int]]:
        if self.stamps is None:
            return {}
        try:
            known = json.loads(self.stamps.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known["stamps"] if known.get("digest") == self.digest else {}

    def _remember(self) -> None:
        """Save what was hashed once all of it was: a stamp is a shortcut, so a store that cannot be written is fine."""
        if self.stamps is None or len(self._known_stamps) < len(self._entries):
            return
        if os.access(self.stamps.parent, os.W_OK) or not self.stamps.parent.exists():
            try:
                replace_text(self.stamps, canonical_json({"digest": self.digest, "stamps": self._known_stamps}))
            except OSError:
                return

    def _mismatch(self, path: Path, what: str) -> IntegrityError:
        return IntegrityError(
            f"{path} {what}, which is not what its manifest says. "
            f"Run `python -m pipeline.artifacts repair {self.short}` to rebuild it."
        )


def _status_of(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
