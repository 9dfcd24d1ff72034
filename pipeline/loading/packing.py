"""Machinery: best-fit packing of whole documents into windows of one length.

Best-fit-decreasing after Ding et al., "Fewer Truncations Improve Language Modeling" (2024): a document longer than a
window fills whole windows and leaves a rest; documents and rests go, longest first, into the window with the least
space that still holds them.  A pure function of the lengths, in O(n log n).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Packing:
    """Which piece of the stream lies where: piece i is ids `source[i]`.. and lies at `target[i]`.., `length[i]` long.

    The pieces are in the order in which they lie: in a window as in the stream, window after window by the last piece
    in it, so that the pieces of a document that was cut are in order too.  `document[i]` is the document of a piece.
    """

    window: int
    windows: int
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    length: NDArray[np.int64]
    document: NDArray[np.int64]

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

    def starts(self) -> NDArray[np.int64]:
        """Return where, over all windows, a document or its rest begins, and where padding does; in order."""
        ends = self.target + self.length
        return np.union1d(self.target, ends[ends % self.window != 0])


def pack(lengths: NDArray[np.int64], window: int) -> Packing:
    """Pack documents of these lengths, which lie in a stream one after the other, into windows of `window` ids."""
    length, source, document = _pieces(lengths, window)
    room = _best_fit(length, window)
    windows = int(room.max()) + 1 if len(room) else 0
    last = np.zeros(windows, dtype=np.int64)
    np.maximum.at(last, room, source)
    order = np.lexsort((source, last[room]))
    length, source, document, room = length[order], source[order], document[order], room[order]
    opens = np.flatnonzero(np.diff(room, prepend=-1))  # only now are the windows in order
    ends = np.cumsum(length)
    before = np.repeat(ends[opens] - length[opens], np.diff(np.append(opens, len(room))))
    numbers = np.repeat(np.arange(windows), np.diff(np.append(opens, len(room))))
    return Packing(window, windows, source, numbers * window + ends - length - before, length, document)


def _pieces(lengths: NDArray[np.int64], window: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut documents into pieces of at most a window; return the length, place in the stream and document of each."""
    counts = -(-lengths // window)
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    length = np.minimum(window, lengths[document] - within * window)
    starts = np.cumsum(lengths) - lengths
    return length, starts[document] + within * window, document


def _best_fit(length: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Return the window of each piece.

    Open windows lie in stacks by the space left; bit s of `spaces` is set when stack s holds one, so that the least
    space of at least n is the lowest bit of `spaces >> n`.
    """
    stacks: list[list[int]] = [[] for _ in range(window + 1)]
    spaces = opened = 0
    room = np.empty(len(length), dtype=np.int64)
    for piece in np.argsort(-length, kind="stable").tolist():
        need = int(length[piece])
        if enough := spaces >> need:
            space = need + (enough & -enough).bit_length() - 1
            number = stacks[space].pop()
            if not stacks[space]:
                spaces ^= 1 << space
        else:
            space, number, opened = window, opened, opened + 1
        room[piece] = number
        if left := space - need:
            stacks[left].append(number)
            spaces |= 1 << left
    return room
