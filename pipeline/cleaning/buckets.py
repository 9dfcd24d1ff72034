"""Machinery: how the parts of a corpus meet in files: rows sorted by a key, read by ranges of that key, part by part.

Every part writes its rows sorted.  A bucket is a range of keys: it reads its slice of every part and nothing else, so
that all rows with one key meet in one task, in the order of the parts.  What a bucket decides, each part reads back.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cleaning.step import DOCUMENTS
from pipeline.executors.resumable import Work

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.void]

ROWS_PER_BUCKET = 1 << 20
"""rows that a bucket holds on average, as keys are hashes; one takes about 130 bytes of memory while it is compared"""


@dataclass(frozen=True)
class Folders:
    """The folders of a phase's parts, in a task that stays small however many they are."""

    root: Path
    count: int

    def __getitem__(self, index: int) -> Path:
        return self.root / f"{index:06d}"

    @classmethod
    def made_by(cls, work: Work, phase: str, count: int) -> "Folders":
        """Return the folders that a map has made or will make."""
        return cls(work.output(phase, 0).parent, count)

    @classmethod
    def of(cls, parts: Sequence[Path]) -> "Folders":
        """Return a finished phase's folders; ValueError when they are not all of one phase, in order."""
        folders = cls(parts[0].parent, len(parts))
        if any(part != folders[i] for i, part in enumerate(parts)):
            raise ValueError(f"{folders.root} does not hold {len(parts)} parts in order")
        return folders


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


def join(slices: Sequence["Rows"], dtype: Any) -> "Rows":
    """Put rows one after the other; no slice is no row."""
    import numpy as np

    return np.concatenate([np.empty(0, dtype=dtype), *slices])


def starts_run(*columns: "NDArray[Any]") -> "NDArray[np.bool_]":
    """Tell for each row whether it differs from the row before it in one of the columns."""
    import numpy as np

    differs = np.ones(len(columns[0]), dtype=np.bool_)
    differs[1:] = False
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return differs


def first_of_run(starts: "NDArray[np.bool_]") -> "NDArray[np.int64]":
    """Return for each row the index of the row that its run starts with."""
    import numpy as np

    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def name_documents(parts: Folders, part: "NDArray[Any]", document: "NDArray[Any]") -> list[str]:
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
