"""Machinery: several sources in one endless order of samples, each with the share it was given.

The order is a function of the seed and a position, in O(1) memory, like that of a single source: it is the same for any
number of processes, and a position is all that is needed to resume.

Sources are not drawn by chance: a run would then see other shares than it was given, by the square root of its length.
They come in a pattern of whole numbers that repeats, so that the shares are exact after each pattern and no rounding
adds up; within it each source comes evenly spread, in the order in which Sainte-Laguë's method of proportional
representation gives out seats: the j-th of m samples is due in the middle of the j-th m-th of the pattern.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import lcm

import numpy as np

from pipeline.errors import ConfigError
from pipeline.loading.order import BLOCK_SAMPLES, Indices, Order, derive_seed

MAX_PATTERN = 2**16
"""samples after which the sources come in the same pattern again, at most"""


def whole_shares(weights: Sequence[int | float]) -> tuple[int, ...]:
    """Turn weights into whole numbers of samples of one pattern, in exactly their proportion where that is possible.

    0.7 and 0.3 become 7 and 3.  Weights with no common measure in MAX_PATTERN samples share these by largest remainder.
    Raises ConfigError for a weight that is not positive, or too small for a single sample.
    """
    if any(not 0 < weight < float("inf") for weight in weights):
        raise ConfigError(f"weights must be positive numbers, got {', '.join(map(str, weights))}.")
    exact = [Fraction(repr(float(weight))) for weight in weights]  # 0.7 as it was typed, not the float next to it
    shares = [weight / sum(exact) for weight in exact]
    pattern = lcm(*(share.denominator for share in shares))
    if pattern <= MAX_PATTERN:
        return tuple(int(share * pattern) for share in shares)
    counts = [int(share * MAX_PATTERN) for share in shares]
    remainders = [count - share * MAX_PATTERN for count, share in zip(counts, shares, strict=True)]
    for source in sorted(range(len(counts)), key=remainders.__getitem__)[: MAX_PATTERN - sum(counts)]:
        counts[source] += 1
    if not all(counts):
        least = weights[counts.index(0)]
        raise ConfigError(f"the weight {least} is too small: it is less than one sample in {MAX_PATTERN:,}.")
    return tuple(counts)


@dataclass(frozen=True)
class Mixture:
    """The endless sequence of samples of several sources, numbered one source after the other.

    Of every `sum(counts)` samples exactly counts[k] come from source k, spread evenly: among the first n samples, for
    any n, their number is less than one per source away from their share.  The samples of one source come in its own
    order, epoch after epoch, whatever the others do.
    """

    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    seed: int

    def at(self, position: int, count: int) -> Indices:
        """Return the `count` samples from `position` on; sample i of source k is sum(sizes[:k]) + i."""
        blocks = range(position // BLOCK_SAMPLES, -(-(position + count) // BLOCK_SAMPLES))
        start = position % BLOCK_SAMPLES
        return np.concatenate([np.empty(0, np.int64), *(_block(self, i) for i in blocks)])[start : start + count]

    def draws(self, position: int, count: int) -> tuple[Indices, Indices]:
        """Return which source each sample comes from, and how many of that source came before it."""
        rounds, slots = np.divmod(np.arange(position, position + count, dtype=np.int64), len(self._pattern))
        sources = self._pattern[slots]
        return sources, rounds * np.array(self.counts)[sources] + self._ranks[slots]

    @cached_property
    def _by_due_time(self) -> Indices:
        """Order the slots by when they are due: the j-th of m samples of a source at (j + 1/2) / m of the pattern."""
        due = np.concatenate([(2 * np.arange(count) + 1) / (2 * count) for count in self.counts])
        return np.argsort(due, kind="stable")

    @cached_property
    def _pattern(self) -> Indices:
        pattern: Indices = np.repeat(np.arange(len(self.counts)), self.counts)[self._by_due_time]
        return pattern

    @cached_property
    def _ranks(self) -> Indices:
        ranks: Indices = np.concatenate([np.arange(count) for count in self.counts])[self._by_due_time]
        return ranks


@lru_cache(maxsize=16)
def _block(mixture: Mixture, number: int) -> Indices:
    """Return one block of the order; neighbours in it ask for the same one."""
    sources, places = mixture.draws(number * BLOCK_SAMPLES, BLOCK_SAMPLES)
    samples = np.empty(BLOCK_SAMPLES, dtype=np.int64)
    first = 0
    for source, size in enumerate(mixture.sizes):
        here = np.flatnonzero(sources == source)
        if len(here):  # the places of one source follow each other
            order = Order(size, derive_seed(mixture.seed, "source", source))
            samples[here] = first + order.at(int(places[here[0]]), len(here))
        first += size
    samples.setflags(write=False)
    return samples
