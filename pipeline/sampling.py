"""Machinery: which sample comes when, and the window of tokens that is a sample.

The order is a pure function of (seed, epoch): sample i of an epoch is permute(i), computed in O(1) memory by a keyed
Feistel network of our own integers, because the permutations of numpy and torch change between releases.  A position
in the endless sequence of epochs is one integer, and it is all that is needed to resume.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, IntegrityError
from pipeline.mapped import CheckedPaths, Opened, Paths, index_of

Indices: TypeAlias = NDArray[np.int64]
Tokens: TypeAlias = NDArray[Any]

BLOCK_SAMPLES = 4096
"""samples of an order that are computed at once: a permutation costs some forty calls of numpy, for one or for all"""

NO_TOKEN = -1
"""what stands in a row where there is no token"""

_ROUNDS = 6
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # the finaliser of splitmix64


# --- order ---------------------------------------------------------------------------------------------------


def derive_seed(*names: int | str) -> int:
    """Return a 63-bit seed that is a pure function of `names`, such as (seed, "dropout", step)."""
    text = "\x1f".join(map(str, names)).encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def permute(indices: Indices, size: int, seed: int) -> Indices:
    """Map each index below `size` to another, one to one.

    A balanced Feistel network (Luby and Rackoff, 1988) over the next even power of two, walked until the result is
    below `size` again (Black and Rogaway, 2002).
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = [np.uint64(derive_seed(seed, "round", i)) for i in range(_ROUNDS)]
    result = _feistel(indices.astype(np.uint64), half, keys)
    outside = np.flatnonzero(result >= size)
    while len(outside):
        walked = _feistel(result[outside], half, keys)
        result[outside] = walked
        outside = outside[walked >= size]
    return result.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64(2**half - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        mixed = _mix(right ^ key)
        mixed &= mask
        mixed ^= left
        left, right = right, mixed
    return (left << bits) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble the bits of each value, in place."""
    values ^= values >> np.uint64(30)
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


class SampleOrder(Protocol):
    """What says which samples come at a position of an endless sequence."""

    def at(self, position: int, count: int) -> Indices: ...


@dataclass(frozen=True)
class Order:
    """The endless sequence of samples: epoch after epoch, each a permutation of 0..size-1."""

    size: int
    seed: int

    def at(self, position: int, count: int) -> Indices:
        """Return the `count` samples from `position` on."""
        samples = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, place = divmod(position + done, self.size)
            number, start = divmod(place, BLOCK_SAMPLES)
            piece = _block(self.size, self.seed, epoch, number)[start : start + count - done]
            samples[done : done + len(piece)] = piece
            done += len(piece)
        return samples


@lru_cache(maxsize=64)
def _block(size: int, seed: int, epoch: int, number: int) -> Indices:
    """Return one block of an epoch's samples; neighbours in the order ask for the same one."""
    start = number * BLOCK_SAMPLES
    places = np.arange(start, min(start + BLOCK_SAMPLES, size), dtype=np.int64)
    samples = permute(places, size, derive_seed(seed, "epoch", epoch))
    samples.setflags(write=False)  # every caller sees this very array
    return samples


def share_of(samples: Indices, rank: int, world_size: int) -> Indices:
    """Return the part of a global batch that is rank's: consecutive, and as even as it can be."""
    return np.array_split(samples, world_size)[rank]


# --- streams -------------------------------------------------------------------------------------------------


class TokenStream:
    """The tokens of several shards as one stream; each shard is mapped into memory when it is first read."""

    def __init__(self, paths: Paths, lengths: Sequence[int] | None = None, *, end_of_text: int = NO_TOKEN) -> None:
        """`lengths` are the tokens of each file; without them every file is opened now to count."""
        self._paths, self.end_of_text = paths, end_of_text
        self._lengths = lengths or [len(_tokens_in(paths[number])) for number in range(len(paths))]
        self._starts = np.cumsum([0, *self._lengths])
        self._shards = Opened(self._open)

    @classmethod
    def of(cls, shards: Artifact, split: str) -> "TokenStream":
        """Return a split of published shards, of which no file is opened yet."""
        rows = index_of(shards, split)
        paths = CheckedPaths(shards, [row[0] for row in rows])
        return cls(paths, [row[1] for row in rows], end_of_text=shards.facts["end_of_text"])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Indices:
        """Return the tokens start..stop-1 as int64; they may lie in several shards."""
        tokens = np.empty(stop - start, dtype=np.int64)
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        done = 0
        while done < len(tokens):
            offset = start + done - int(self._starts[shard])
            piece = self._shards[shard][offset : offset + len(tokens) - done]
            tokens[done : done + len(piece)] = piece
            done += len(piece)
            shard += 1
        return tokens

    def read_rows(self, starts: Indices, length: int) -> Indices:
        """Return the `length` tokens from each of `starts` on, as int64 rows in a fresh buffer."""
        numbers = np.searchsorted(self._starts, starts, side="right") - 1
        offsets = (starts - self._starts[numbers]).tolist()
        shards = self._shards
        pieces = [shards[i][start : start + length] for i, start in zip(numbers.tolist(), offsets, strict=True)]
        tokens = np.concatenate(pieces or [starts], dtype=np.int64)  # no pieces: no starts either
        if len(tokens) < len(starts) * length:  # some row goes on in the next shard
            whole = zip(pieces, starts.tolist(), strict=True)
            tokens = np.concatenate(
                [p if len(p) == length else self.read(s, s + length) for p, s in whole], dtype=np.int64
            )
        return tokens.reshape(-1, length)

    def _open(self, number: int) -> Tokens:
        path = self._paths[number]
        tokens = _tokens_in(path)
        if len(tokens) != self._lengths[number]:
            raise IntegrityError(f"{path} has {len(tokens)} tokens, and its index says {self._lengths[number]}.")
        return tokens


def _tokens_in(path: Path) -> Tokens:
    from pipeline.arrow import read_batch

    # A plain array: slicing one of numpy's memory maps costs ten times as much.
    tokens: Tokens = read_batch(path).column("input_ids").values.to_numpy(zero_copy_only=True)
    return tokens


# --- windows -------------------------------------------------------------------------------------------------


def document_ids(rows: Indices, end_of_text: int) -> Indices:
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

    def gather(self, samples: Indices) -> Indices:
        """Return the windows `samples` as rows of context_length + 1 tokens, in a fresh buffer."""

    def document_ids(self, samples: Indices, rows: Indices) -> Indices:
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

    def gather(self, samples: Indices) -> Indices:
        """Return the windows `samples` as rows of context_length + 1 tokens, in a fresh buffer."""
        return self.stream.read_rows(samples * self.stride, self.context_length + 1)

    def document_ids(self, samples: Indices, rows: Indices) -> Indices:
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

    def gather(self, samples: Indices) -> Indices:
        """Return the windows `samples` as rows of context_length + 1, NO_TOKEN after the end of the stream."""
        rows = np.full((len(samples), self.context_length + 1), NO_TOKEN, dtype=np.int64)
        for row, start in zip(rows, (samples * self.context_length).tolist(), strict=True):
            tokens = self.stream.read(start, min(start + self.context_length + 1, len(self.stream)))
            row[: len(tokens)] = tokens
        return rows

    def document_ids(self, samples: Indices, rows: Indices) -> Indices:
        """Return by number which document each input of the gathered rows is read with."""
        return document_ids(rows, self.stream.end_of_text)
