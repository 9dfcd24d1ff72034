"""Machinery: packed shards, whose rows are whole windows of whole documents, read by memory map.

A row is context_length + 1 ids; `document_starts` says where in it documents start.  What is left of a row is padding:
its first place is the last of the starts, and its ids are those of <|pad|>.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int32, UInt

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import IntegrityError
from pipeline.loading.order import Indices
from pipeline.loading.shard_files import CheckedPaths, LazyFiles, index_of
from pipeline.loading.windows import NO_TOKEN, DocumentIds, Rows


@dataclass(frozen=True)
class _File:
    """The rows of one file; the documents of row i start at starts[offsets[i] : offsets[i + 1]]."""

    ids: UInt[np.ndarray, "rows window"]
    starts: UInt[np.ndarray, " starts"]
    offsets: Int32[np.ndarray, " rows+1"]


class PackedWindows:
    """The rows of a split of packed shards; each file is checked and mapped when it is first read."""

    padded: ClassVar[bool] = True

    def __init__(self, shards: Artifact, split: str) -> None:
        index = index_of(shards, split)
        self.context_length: int = shards.facts["context_length"]
        self._end_of_text, self._pad = shards.facts["end_of_text"], shards.facts["pad"]
        self._paths = CheckedPaths(shards, [row[0] for row in index])
        self._counts = [row[1] // (self.context_length + 1) for row in index]
        self._firsts = np.cumsum([0, *self._counts])
        self._files = LazyFiles(self._open)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def gather(self, samples: Indices) -> Rows:
        """Return the rows `samples` in a fresh buffer, NO_TOKEN where there is padding."""
        rows = np.empty((len(samples), self.context_length + 1), dtype=np.int64)
        for row, (number, place) in zip(rows, self._places(samples), strict=True):
            row[:] = self._files[number].ids[place]
        rows[rows == self._pad] = NO_TOKEN
        return rows

    def document_ids(self, samples: Indices, rows: Rows) -> DocumentIds:
        """Return by number which document each input (all but the last column) is read with, as for a stream.

        The end-of-text id before a document is read with it: see `document_ids` of `pipeline.loading.windows`.
        """
        begins = np.zeros(rows.shape, dtype=bool)
        for row, ids, (number, place) in zip(begins, rows, self._places(samples), strict=True):
            file = self._files[number]
            starts = file.starts[file.offsets[place] : file.offsets[place + 1]].astype(np.int64)[1:]
            row[starts - (ids[starts - 1] == self._end_of_text)] = True
        return begins[:, :-1].cumsum(axis=1)

    def _places(self, samples: Indices) -> list[tuple[int, int]]:
        numbers = np.searchsorted(self._firsts, samples, side="right") - 1
        return list(zip(numbers.tolist(), (samples - self._firsts[numbers]).tolist(), strict=True))

    def _open(self, number: int) -> _File:
        from pipeline.tables.arrow import read_batch, values_of

        path = self._paths[number]
        batch = read_batch(path)
        ids, starts = batch.column("input_ids"), batch.column("document_starts")
        flat = values_of(ids.values)
        if len(batch) != self._counts[number] or len(flat) != len(batch) * (self.context_length + 1):
            raise _misfit(path, len(batch), len(flat), self._counts[number], self.context_length)
        return _File(
            ids=flat.reshape(len(batch), -1),
            starts=values_of(starts.values),
            offsets=values_of(starts.offsets),
        )


def _misfit(path: Path, rows: int, tokens: int, declared: int, context_length: int) -> IntegrityError:
    return IntegrityError(
        f"{path} has {rows} rows of {tokens} ids together, and its index says {declared} of {context_length + 1} each."
    )
