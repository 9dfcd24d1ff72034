"""Machinery: Arrow IPC files, one record batch each, written in order and read by memory map."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Integer, Shaped

_MOST_BYTES = 2**31 - 1


def write_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Write one record batch as an Arrow IPC *file* (its footer tells a cut file from a whole one)."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def strings(texts: Sequence[str]) -> pa.StringArray:
    """Return texts as an Arrow column.

    `pa.array` would import pandas to ask whether the list is one of its own, which takes longer than all of a part.
    Raises DataError for more than 2 GiB, which is what one column of a file holds.
    """
    import numpy as np

    encoded = [text.encode("utf-8") for text in texts]
    ends = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)), out=ends[1:])
    if ends[-1] > _MOST_BYTES:
        raise DataError(f"{ends[-1]:,} bytes of text are more than a file holds ({_MOST_BYTES:,}); cut long documents.")
    offsets, data = pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), offsets, data)


def numbers(values: "Shaped[np.ndarray, ' rows']") -> pa.Array:
    """Return a NumPy array of numbers as an Arrow column, without a copy and without pandas."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def values_of(column: pa.Array) -> "Shaped[np.ndarray, ' rows']":
    """Return a column of numbers that has no nulls as a NumPy array, where it lies; `to_numpy` would import pandas."""
    import numpy as np

    if not len(column):
        return np.empty(0, dtype=str(column.type))
    return np.frombuffer(column.buffers()[1], dtype=str(column.type))[column.offset : column.offset + len(column)]


def offsets_of(texts: pa.StringArray | pa.LargeStringArray) -> "Integer[np.ndarray, ' rows+1']":
    """Return where the bytes of each text of a column begin in its buffer, and where the last ends."""
    import numpy as np

    if len(texts) == 0:
        return np.zeros(1, dtype=np.int32)
    width = np.int64 if str(texts.type).startswith("large") else np.int32
    return np.frombuffer(texts.buffers()[1], dtype=width)[texts.offset : texts.offset + len(texts) + 1]


def data_of(texts: pa.StringArray | pa.LargeStringArray) -> memoryview:
    """Return the buffer that `offsets_of` points into: the UTF-8 of a column's texts, one after the other."""
    return memoryview(texts.buffers()[2] or b"")


def bytes_of(texts: pa.StringArray | pa.LargeStringArray) -> Iterator[memoryview]:
    """Yield the UTF-8 of each text of a column, where it lies."""
    data, offsets = data_of(texts), offsets_of(texts)
    for start in range(0, len(texts), 2**14):
        yield from (data[a:z] for a, z in pairwise(offsets[start : start + 2**14 + 1].tolist()))


def string_batch(columns: Mapping[str, Sequence[str]]) -> pa.RecordBatch:
    """Return columns of texts as a record batch."""
    return pa.RecordBatch.from_arrays(list(map(strings, columns.values())), names=list(columns))


def read_batch(path: Path) -> pa.RecordBatch:
    """Return the record batch of an Arrow IPC file without copying it into memory."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Join record batches of one schema; raises DataError when a column is more than a file holds."""
    joined = pa.Table.from_batches(batches).combine_chunks().to_batches()
    if len(joined) > 1:
        raise DataError(f"a column of text is more than a file holds ({_MOST_BYTES:,} bytes); cut long documents.")
    return joined[0] if joined else batches[0]


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
        names = [part_name(self.name, i, len(self._parts)) for i in range(len(self._parts))]
        return [path.rename(path.with_name(name)) for path, name in zip(self._parts, names, strict=True)]

    def _flush(self) -> None:
        path = self.folder / f".{self.name}-{len(self._parts):05d}"
        write_batch(path, pa.RecordBatch.from_pylist(self._rows, schema=self.schema))
        self._parts.append(path)
        self._rows, self._bytes = [], 0


def part_name(name: str, index: int, count: int) -> str:
    """Return the name of one file of `count`; sorted by name, the files are in order."""
    width = max(5, len(str(count)))
    return f"{name}-{index:0{width}d}-of-{count:0{width}d}.arrow"
