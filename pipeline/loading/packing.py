"""Machinery: best-fit packing of whole documents into windows of one length.

Cutting the stream every window would cut documents that fit into one, and a model learns to continue text whose start
it does not see: Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv:2404.10830.  Their algorithm is
this one.  A document longer than a window fills whole windows and leaves a rest; documents and rests go, longest first,
into the window with the least space that still holds them.  That is best-fit decreasing, which needs at most 11/9 of
the fewest windows possible and a few (Johnson et al. 1974); on real lengths it leaves almost no space.  A pure function
of the lengths.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Packing:
    """Which span of the stream lies where: span i is ids `source[i]`.. and lies at `target[i]`.., `length[i]` long.

    The spans are in the order in which they lie: in a window as in the stream, window after window by the last span
    in it, so that the spans of a document that was cut are in order too.  `document[i]` is the document of a span.
    """

    window: int
    windows: int
    source: Int64[np.ndarray, " spans"]
    target: Int64[np.ndarray, " spans"]
    length: Int64[np.ndarray, " spans"]
    document: Int64[np.ndarray, " spans"]

    @property
    def padding(self) -> int:
        """How many ids of the windows are of no document."""
        return self.windows * self.window - int(self.length.sum())

    @property
    def cuts(self) -> int:
        """How often a document was cut."""
        return len(self.document) - len(np.unique(self.document))

    @property
    def cut_documents(self) -> int:
        """How many documents were cut."""
        return int((np.unique(self.document, return_counts=True)[1] > 1).sum())

    def starts(self) -> Int64[np.ndarray, " starts"]:
        """Return where, over all windows, a document or its rest begins, and where padding does; in order."""
        ends = self.target + self.length
        return np.union1d(self.target, ends[ends % self.window != 0])


def pack(lengths: Int64[np.ndarray, " documents"], window: int) -> Packing:
    """Pack documents of these lengths, which lie in a stream one after the other, into windows of `window` ids."""
    length, source, document = _cut_long(lengths, window)
    placed = _best_fit(length, window)
    windows = int(placed.max()) + 1 if len(placed) else 0
    # Best fit goes by length; windows are put back into the order of the stream, so that training on packed shards in
    # order sees documents in about the order of the corpus.
    last = np.zeros(windows, dtype=np.int64)
    np.maximum.at(last, placed, source)
    order = np.lexsort((source, last[placed]))
    length, source, document, placed = length[order], source[order], document[order], placed[order]
    opens = np.flatnonzero(np.diff(placed, prepend=-1))  # only now are the windows in order
    ends = np.cumsum(length)
    before = np.repeat(ends[opens] - length[opens], np.diff(np.append(opens, len(placed))))
    numbers = np.repeat(np.arange(windows), np.diff(np.append(opens, len(placed))))
    return Packing(window, windows, source, numbers * window + ends - length - before, length, document)


def _cut_long(
    lengths: Int64[np.ndarray, " documents"], window: int
) -> tuple[Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"]]:
    """Cut documents into spans of at most a window; return the length, place in the stream and document of each."""
    counts = -(-lengths // window)
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = np.minimum(window, lengths[document] - within * window)
    starts = np.cumsum(lengths) - lengths
    return length, starts[document] + within * window, document


def _best_fit(length: Int64[np.ndarray, " spans"], window: int) -> Int64[np.ndarray, " spans"]:
    """Return the window that each span goes to."""
    # Open windows lie in stacks by the space left; bit s of `spaces` is set when stack s holds one, so that the least
    # space of at least n is the lowest bit of `spaces >> n`: no tree, and windows are found in constant time in effect.
    stacks: list[list[int]] = [[] for _ in range(window + 1)]
    spaces = opened = 0
    placed = np.empty(len(length), dtype=np.int64)
    for span in np.argsort(-length, kind="stable").tolist():
        need = int(length[span])
        if enough := spaces >> need:
            space = need + (enough & -enough).bit_length() - 1
            number = stacks[space].pop()
            if not stacks[space]:
                spaces ^= 1 << space
        else:
            space, number, opened = window, opened, opened + 1
        placed[span] = number
        if left := space - need:
            stacks[left].append(number)
            spaces |= 1 << left
    return placed
