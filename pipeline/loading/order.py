"""Machinery: sample order: a seeded permutation in O(1) memory, a pure function of seed and position.

A shuffled list of samples costs memory that grows with the data, and what a library's shuffle gives changes between its
releases.  Here position i of an epoch is a number computed from (seed, epoch, i) with integer arithmetic that is ours:
any rank finds its samples without the others', and to resume is to know one position.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Int64, UInt64

Indices: TypeAlias = Int64[np.ndarray, " n"]
"""numbers of samples"""
Words: TypeAlias = UInt64[np.ndarray, " n"]

BLOCK_SAMPLES = 4096
"""samples of an order that are computed at once: a permutation costs some forty calls of numpy, for one or for all"""

_ROUNDS = 6
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # the finaliser of splitmix64


# --- order ---------------------------------------------------------------------------------------------------


def derive_seed(*names: int | str) -> int:
    """Return a 63-bit seed that is a pure function of `names`, such as (seed, "dropout", step)."""
    text = "\x1f".join(map(str, names)).encode("utf-8")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def permute(indices: Indices, size: int, seed: int) -> Indices:
    """Map each index below `size` to another, one to one."""
    # A Feistel network is one to one whatever its rounds compute, as each can be undone: no table, no collisions.
    # Four rounds of a random function look random (Luby and Rackoff 1988, How to construct pseudorandom permutations);
    # `_mix` is a cheap one, so there are two more.  The network permutes 2**(2 * half) numbers, at most four times
    # `size` (or 4).  A result that is not below `size` is permuted again until one is (cycle walking: Black and Rogaway
    # 2002, Ciphers with arbitrary finite domains): its cycle began below `size`, so it leads back there.
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = [np.uint64(derive_seed(seed, "round", i)) for i in range(_ROUNDS)]
    result = _feistel(indices.astype(np.uint64), half, keys)
    outside = np.flatnonzero(result >= size)
    while len(outside):
        walked = _feistel(result[outside], half, keys)
        result[outside] = walked
        outside = outside[walked >= size]
    return result.astype(np.int64)


def _feistel(values: Words, half: int, keys: list[np.uint64]) -> Words:
    bits, mask = np.uint64(half), np.uint64(2**half - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        mixed = _mix(right ^ key)
        mixed &= mask
        mixed ^= left
        left, right = right, mixed
    return (left << bits) | right


def _mix(values: Words) -> Words:
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
            block = _block(self.size, self.seed, epoch, number)[start : start + count - done]
            samples[done : done + len(block)] = block
            done += len(block)
        return samples


@lru_cache(maxsize=64)
def _block(size: int, seed: int, epoch: int, number: int) -> Indices:
    """Return one block of an epoch's samples; neighbours in the order ask for the same one."""
    start = number * BLOCK_SAMPLES
    places = np.arange(start, min(start + BLOCK_SAMPLES, size), dtype=np.int64)
    samples = permute(places, size, derive_seed(seed, "epoch", epoch))
    samples.setflags(write=False)  # every caller sees this very array
    return samples


def share_of(samples: Indices, rank: int, world_size: int) -> Int64[np.ndarray, " share"]:
    """Return the slice of a global batch that is rank's: consecutive, and as even as it can be."""
    return np.array_split(samples, world_size)[rank]
