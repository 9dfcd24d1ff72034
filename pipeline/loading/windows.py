"""Machinery: the token stream of shards, and the window of tokens that is a sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
from jaxtyping import Int64, UInt

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, IntegrityError
from pipeline.loading.order import Indices
from pipeline.loading.shard_files import CheckedPaths, LazyFiles, Paths, index_of

StoredTokens: TypeAlias = UInt[np.ndarray, " tokens"]
"""as they lie in a file: uint16 or uint32"""
Rows: TypeAlias = Int64[np.ndarray, "n window"]
"""token ids of windows: context_length inputs, and the target of the last one"""
DocumentIds: TypeAlias = Int64[np.ndarray, "n inputs"]

NO_TOKEN = -1
"""what stands in a row where there is no token"""


# --- streams -------------------------------------------------------------------------------------------------


class TokenStream:
    """The tokens of several shards as one stream; each shard is mapped into memory when it is first read."""

    def __init__(self, paths: Paths, lengths: Sequence[int], *, end_of_text: int) -> None:
        """`lengths` are the tokens of each file, so that none is opened to count them."""
        self._paths, self._lengths, self.end_of_text = paths, lengths, end_of_text
        self._starts = np.cumsum([0, *self._lengths])
        self._shards = LazyFiles(self._open)

    @classmethod
    def of(cls, shards: Artifact, split: str) -> "TokenStream":
        """Return a split of published shards, of which no file is opened yet."""
        rows = index_of(shards, split)
        paths = CheckedPaths(shards, [row[0] for row in rows])
        return cls(paths, [row[1] for row in rows], end_of_text=shards.facts["end_of_text"])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Int64[np.ndarray, " tokens"]:
        """Return the tokens start..stop-1; they may lie in several shards."""
        tokens = np.empty(stop - start, dtype=np.int64)
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        done = 0
        while done < len(tokens):
            offset = start + done - int(self._starts[shard])
            span = self._shards[shard][offset : offset + len(tokens) - done]
            tokens[done : done + len(span)] = span
            done += len(span)
            shard += 1
        return tokens

    def read_rows(self, starts: Indices, length: int) -> Rows:
        """Return the `length` tokens from each of `starts` on, as rows in a fresh buffer."""
        numbers = np.searchsorted(self._starts, starts, side="right") - 1
        offsets = (starts - self._starts[numbers]).tolist()
        shards = self._shards
        spans = [shards[i][start : start + length] for i, start in zip(numbers.tolist(), offsets, strict=True)]
        tokens = np.concatenate(spans or [starts], dtype=np.int64)  # no spans: no starts either
        if len(tokens) < len(starts) * length:  # some row goes on in the next shard
            whole = zip(spans, starts.tolist(), strict=True)
            tokens = np.concatenate(
                [p if len(p) == length else self.read(s, s + length) for p, s in whole], dtype=np.int64
            )
        return tokens.reshape(-1, length)

    def _open(self, number: int) -> StoredTokens:
        from pipeline.tables.arrow import read_batch, values_of

        path = self._paths[number]
        # A plain array: slicing one of numpy's memory maps costs ten times as much.
        tokens: np.ndarray = values_of(read_batch(path).column("input_ids").values)
        if len(tokens) != self._lengths[number]:
            raise IntegrityError(f"{path} has {len(tokens)} tokens, and its index says {self._lengths[number]}.")
        return tokens


# --- windows -------------------------------------------------------------------------------------------------


def document_ids(rows: Rows, end_of_text: int) -> DocumentIds:
    """Return by number which document each input (all but the last column) is read with.

    The end-of-text id after a document is its last target and the first input of the next one: what follows it is
    predicted from it alone, as when a text is made from nothing, and no target is predicted from another document.
    """
    return np.cumsum(rows[:, :-1] == end_of_text, axis=1)


class WindowSource(Protocol):
    """Numbered windows: what a stream or packed shards are to training."""

    @property
    def context_length(self) -> int: ...

    @property
    def padded(self) -> bool:
        """Whether rows may hold NO_TOKEN."""

    def __len__(self) -> int: ...

    def gather(self, samples: Indices) -> Rows:
        """Return the windows `samples` as rows of context_length + 1 tokens, in a fresh buffer."""

    def document_ids(self, samples: Indices, rows: Rows) -> DocumentIds:
        """Return by number which document each input of the gathered rows is read with."""


@dataclass(frozen=True)
class Windows:
    """Sliding windows over a stream: window i is the tokens from i * stride on, context_length and one more."""

    padded: ClassVar[bool] = False

    stream: TokenStream
    context_length: int
    stride: int

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"stride must be at least 1, got {self.stride}.")
        if len(self.stream) < self.context_length + 1:
            raise ConfigError(
                f"context_length {self.context_length} is above what the corpus holds: its train split has "
                f"{len(self.stream):,} tokens, so at most {max(0, len(self.stream) - 1):,}. "
                "Lower model.context_length or add text."
            )

    def __len__(self) -> int:
        return (len(self.stream) - 1 - self.context_length) // self.stride + 1

    def gather(self, samples: Indices) -> Rows:
        """Return the windows `samples` as rows of context_length + 1 tokens, in a fresh buffer."""
        return self.stream.read_rows(samples * self.stride, self.context_length + 1)

    def document_ids(self, samples: Indices, rows: Rows) -> DocumentIds:
        """Return by number which document each input of the gathered rows is read with."""
        return document_ids(rows, self.stream.end_of_text)


@dataclass(frozen=True)
class CoveringWindows:
    """The windows that predict every token of a stream but its first exactly once; the last may be short."""

    padded: ClassVar[bool] = True

    stream: TokenStream
    context_length: int

    def __len__(self) -> int:
        return -(-max(0, len(self.stream) - 1) // self.context_length)

    def gather(self, samples: Indices) -> Rows:
        """Return the windows `samples` as rows of context_length + 1, NO_TOKEN after the end of the stream."""
        rows = np.full((len(samples), self.context_length + 1), NO_TOKEN, dtype=np.int64)
        for row, start in zip(rows, (samples * self.context_length).tolist(), strict=True):
            tokens = self.stream.read(start, min(start + self.context_length + 1, len(self.stream)))
            row[: len(tokens)] = tokens
        return rows

    def document_ids(self, samples: Indices, rows: Rows) -> DocumentIds:
        """Return by number which document each input of the gathered rows is read with."""
        return document_ids(rows, self.stream.end_of_text)
