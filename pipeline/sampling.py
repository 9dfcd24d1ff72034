"""Machinery: which sample comes when, and the window of tokens that is a sample.

The order is a pure function of (seed, epoch): sample i of an epoch is permute(i), computed in O(1) memory by a keyed
Feistel network of our own integers, because the permutations of numpy and torch change between releases.  A position
in the endless sequence of epochs is one integer, and it is all that is needed to resume.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

Indices: TypeAlias = NDArray[np.int64]

_ROUNDS = 6
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # the finaliser of splitmix64


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
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half, keys)
    return result.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64(2**half - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << bits) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class Order:
    """The endless sequence of samples: epoch after epoch, each a permutation of 0..size-1."""

    size: int
    seed: int

    def at(self, position: int, count: int) -> Indices:
        """Return the `count` samples from `position` on."""
        places = np.arange(position, position + count, dtype=np.int64)
        epochs = places // self.size
        samples = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            samples[here] = permute(places[here] % self.size, self.size, derive_seed(self.seed, "epoch", int(epoch)))
        return samples


def share_of(samples: Indices, rank: int, world_size: int) -> Indices:
    """Return the part of a global batch that is rank's: consecutive, and as even as it can be."""
    return np.array_split(samples, world_size)[rank]


class TokenStream:
    """The tokens of several shards as one stream, read by memory map."""

    def __init__(self, paths: Sequence[Path]) -> None:
        from pipeline.arrow import read_batch

        self._batches = [read_batch(path) for path in paths]  # keeps the maps open
        self._shards: list[NDArray[Any]] = [
            batch.column(0).values.to_numpy(zero_copy_only=True) for batch in self._batches
        ]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

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


@dataclass(frozen=True)
class Windows:
    """Sliding windows over a stream: window i is the tokens from i * stride on, context_length and one more."""

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
        rows = np.empty((len(samples), self.context_length + 1), dtype=np.int64)
        for row, sample in zip(rows, samples, strict=True):
            start = int(sample) * self.stride
            row[:] = self.stream.read(start, start + self.context_length + 1)
        return rows


def covering_windows(length: int, context_length: int) -> list[tuple[int, int]]:
    """Return (start, stop) of the windows that predict every token of a stream but its first exactly once.

    covering_windows(10, 4) == [(0, 5), (4, 9), (8, 10)]: the inputs are start..stop-2, the targets start+1..stop-1.
    """
    return [(start, min(start + context_length + 1, length)) for start in range(0, length - 1, context_length)]
