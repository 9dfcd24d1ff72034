"""Machinery: how the parts of a corpus meet in files: rows sorted by a key, read by ranges of that key, part by part.

Every part writes its rows sorted.  A bucket is a range of keys: it reads its slice of every part and nothing else, so
that all rows with one key meet in one work item, in the order of the parts.  What a bucket decides, each part reads
back.
"""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline.executors.resumable import Output
from pipeline.tables.documents import DOCUMENTS

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int64, Integer, Shaped

    Rows: TypeAlias = Shaped[np.ndarray, " _"]
    """structured rows, of the fields that a constant of the step's module lists (SPAN, FOUND, BAND, …)"""

ROWS_PER_BUCKET = 1 << 20
"""rows that a bucket holds on average, as keys are hashes; one takes about 130 bytes of memory while it is compared"""


@dataclass(frozen=True)
class Folders:
    """The folders of outputs, in order; a phase may give all of them to each work item, so they are written short."""

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:
        return Path(self.root, self.names[index])

    @classmethod
    def of(cls, outputs: Sequence[Output]) -> "Folders":
        """Return the folders of what a map made."""
        paths = [str(output.folder) for output in outputs]
        root = os.path.commonpath(paths)
        return cls(root, tuple(path[len(root) + 1 :] for path in paths))


def key_ranges(rows: int) -> list[tuple[int, int]]:
    """Cut the 64-bit keys into ranges, first and last, for a total of `rows`; their number is a power of two."""
    ranges = 1 << (max(1, -(-rows // ROWS_PER_BUCKET)) - 1).bit_length()
    width = (1 << 64) // ranges
    return [(i * width, (i + 1) * width - 1) for i in range(ranges)]


def rows_between(path: Path, field: str, first: int, last: int) -> "Rows":
    """Read the rows of a file sorted by `field` in which it is from `first` to `last`; the rest is not read."""
    import numpy as np
    from numpy.lib.format import open_memmap

    rows = np.asarray(open_memmap(path, mode="r"))
    start, stop = bisect_left(rows[field], first), bisect_right(rows[field], last)
    return rows[start:stop].copy()


def join(slices: Sequence["Rows"], dtype: list[tuple[str, str]]) -> "Rows":
    """Put rows one after the other; no slice is no row."""
    import numpy as np

    return np.concatenate([np.empty(0, dtype=dtype), *slices])


def starts_run(*columns: "Shaped[np.ndarray, ' rows']") -> "Bool[np.ndarray, ' rows']":
    """Tell for each row whether it differs from the row before it in one of the columns."""
    import numpy as np

    differs = np.ones(len(columns[0]), dtype=np.bool_)
    differs[1:] = False
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return differs


def first_of_run(starts: "Bool[np.ndarray, ' rows']") -> "Int64[np.ndarray, ' rows']":
    """Return for each row the index of the row that its run starts with."""
    import numpy as np

    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def name_documents(
    parts: Folders, part: "Integer[np.ndarray, ' documents']", document: "Integer[np.ndarray, ' documents']"
) -> list[str]:
    """Return `SOURCE PLACE` of the documents with these numbers, reading no text."""
    import numpy as np

    from pipeline.tables.arrow import read_batch

    names = [""] * len(part)
    for number in np.unique(part).tolist():
        batch = read_batch(parts[number] / DOCUMENTS)
        source, place = batch.column("source"), batch.column("place")
        for row in np.flatnonzero(part == number).tolist():
            at = int(document[row])
            names[row] = f"{source[at].as_py()} {place[at].as_py()}"
    return names
