"""Machinery: Arrow IPC files, one record batch each, written in order and read by memory map."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write one record batch as an Arrow IPC *file* (its footer tells a cut file from a whole one)."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_batch(path: Path) -> pa.RecordBatch:
    """Return the record batch of an Arrow IPC file without copying it into memory."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an Arrow IPC file as dictionaries."""
    rows: list[dict[str, Any]] = read_batch(path).to_pylist()
    return rows


class PartWriter:
    """Writes rows to files of about `part_bytes` bytes of text each, named NAME-00000-of-0000N.arrow at the end."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, *, part_bytes: int) -> None:
        self.folder, self.name, self.schema, self.part_bytes = folder, name, schema, part_bytes
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._parts: list[Path] = []

    def add(self, row: dict[str, Any], size: int) -> None:
        """Append a row that counts for `size` bytes."""
        self._rows.append(row)
        self._bytes += size
        if self._bytes >= self.part_bytes:
            self._flush()

    def close(self) -> list[Path]:
        """Write what is left and give the files their names; no rows, no file."""
        if self._rows:
            self._flush()
        return name_parts(self._parts, self.name)

    def _flush(self) -> None:
        path = self.folder / f".{self.name}-{len(self._parts):05d}"
        write_batch(path, pa.RecordBatch.from_pylist(self._rows, schema=self.schema))
        self._parts.append(path)
        self._rows, self._bytes = [], 0


def name_parts(parts: Iterable[Path], name: str) -> list[Path]:
    """Rename finished parts to NAME-00000-of-0000N.arrow, in order."""
    parts = list(parts)
    return [path.rename(path.with_name(part_name(name, i, len(parts)))) for i, path in enumerate(parts)]


def part_name(name: str, index: int, count: int) -> str:
    """Return the name of one file of `count`; sorted by name, the files are in order."""
    width = max(5, len(str(count)))
    return f"{name}-{index:0{width}d}-of-{count:0{width}d}.arrow"
