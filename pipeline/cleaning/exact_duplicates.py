"""Machinery: equal pieces of documents (documents, paragraphs, lines) are found across parts, in phases of a map.

`items`: each part hashes its pieces and writes (hash, document, piece), sorted by hash.  `buckets`: each range of
hashes reads its slice of every part and writes which hashes are lost in which part, and to whom.  `filter`: each part
finds its lost pieces by hash.

A hash is the first 128 bits of SHA-256.  Two of n different pieces are taken for equal with a chance of n * n / 2**129:
about 1 in 10**13 for the 10**13 lines of a web crawl.

Disk: 24 bytes per piece, until the end.  Memory of a bucket: about 130 bytes per hash and part that it is in, for
2**20 of them on average; a piece that is everywhere counts once per part.  Memory of a filter: a part's documents,
twice, and its pieces.
"""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cleaning.buckets import Folders, first_of_run, join, key_ranges, rows_between, starts_run
from pipeline.cleaning.step import DOCUMENTS, CorpusStep, Outcome, filter_part, pass_part
from pipeline.executors.resumable import Work
from pipeline.runtime.hashing import JSON

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.cleaning.buckets import Rows

PIECE = [("high", "<u8"), ("low", "<u8"), ("document", "<u4"), ("piece", "<u4")]
"""a piece of a part: its hash, and where it stands"""
FOUND = [("high", "<u8"), ("low", "<u8"), ("part", "<u4"), ("document", "<u4"), ("pieces", "<u4"), ("documents", "<u4")]
"""a hash in a part: the first document that has it, and how many pieces and documents have it"""
LOST = [("part", "<u4"), ("high", "<u8"), ("low", "<u8"), ("winner_part", "<u4"), ("winner_document", "<u4")]
"""a hash that a part loses, and the document that keeps it; when that is in the same part, its first piece stays"""
NOBODY = 0xFFFFFFFF
"""the part of a winner when every piece is lost"""

PIECES, LOSSES = "pieces.npy", "losses.npy"


@dataclass(frozen=True, kw_only=True)
class Repeats(CorpusStep):
    """A step that finds equal pieces; what a piece is and which are lost, a step of its own says."""

    def run(self, work: Work, phase: str, parts: Sequence[Path]) -> list[Path]:
        if not parts:
            return []
        items, buckets, last = f"{phase}.items", f"{phase}.buckets", f"{phase}.filter"
        found = work.map(items, _find, [_Part(step=self, folder=part) for part in parts], label=self.name)
        pieces = Folders.made_by(work, items, len(parts))
        documents = sum(result["documents"] for result in found)
        ranges = key_ranges(sum(result["pieces"] for result in found))
        compared = work.map(
            buckets,
            _compare,
            [_Bucket(step=self, pieces=pieces, first=a, last=z, documents=documents) for a, z in ranges],
            label=self.name,
        )
        share = sum(result["seconds"] for result in compared) / len(parts)
        folders, lost = Folders.of(parts), Folders.made_by(work, buckets, len(ranges))
        work.map(
            last,
            _filter,
            [
                _Filter(
                    step=self,
                    parts=folders,
                    part=i,
                    pieces=pieces,
                    buckets=lost,
                    seconds=result["seconds"] + share,
                )
                for i, result in enumerate(found)
            ],
            label=self.name,
        )
        work.drop(items)
        work.drop(buckets)
        return work.outputs(last)

    @abstractmethod
    def digest(self, texts: Any) -> "tuple[list[bytes], NDArray[np.uint32], NDArray[np.uint32]]":
        """Return the hash of every piece in an Arrow column of texts, the document it is in, and its number there."""

    @abstractmethod
    def lose(self, rows: "Rows", documents: int) -> "Rows":
        """Return the LOST of a bucket's FOUND, which come sorted by hash and then by part; `documents` are in all."""

    @abstractmethod
    def outcomes(self, texts: Sequence[str], lost: "Lost", parts: Folders) -> Iterator[Outcome]:
        """Yield what becomes of each text of a part."""


@dataclass(frozen=True)
class Lost:
    """The pieces that a part loses, in the order of documents and pieces, column by column."""

    document: "NDArray[np.uint32]"
    piece: "NDArray[np.uint32]"
    winner_part: "NDArray[np.uint32]"
    winner_document: "NDArray[np.uint32]"


# --- phase `items` -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A task: the pieces of one part."""

    step: Repeats
    folder: Path


def _find(task: _Part, folder: Path) -> dict[str, JSON]:
    import numpy as np

    from pipeline.tables.arrow import read_batch

    started = time.perf_counter()
    texts = read_batch(task.folder / DOCUMENTS).column("text")
    digests, document, piece = task.step.digest(texts)
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 4)
    rows = np.empty(len(hashes), dtype=PIECE)
    rows["high"], rows["low"], rows["document"], rows["piece"] = hashes[:, 0], hashes[:, 1], document, piece
    np.save(folder / PIECES, rows[_by_hash(rows)])
    return {"documents": len(texts), "pieces": len(rows), "seconds": time.perf_counter() - started}


def _by_hash(rows: "Rows") -> "NDArray[np.int64]":
    """Return the order by hash; rows with the same hash stay in the order they have."""
    import numpy as np

    return np.lexsort((rows["low"], rows["high"]))


# --- phase `buckets` -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """A task: the pieces of all parts whose hash is in a range."""

    step: Repeats
    pieces: Folders
    first: int
    last: int
    documents: int


def _compare(task: _Bucket, folder: Path) -> dict[str, JSON]:
    import numpy as np

    started = time.perf_counter()
    slices = [_found_in(task, part) for part in range(task.pieces.count)]
    rows = join(slices, FOUND)
    losses = task.step.lose(rows[_by_hash(rows)], task.documents)
    np.save(folder / LOSSES, losses[np.argsort(losses["part"], kind="stable")])
    return {"losses": len(losses), "seconds": time.perf_counter() - started}


def _found_in(task: _Bucket, part: int) -> "Rows":
    """Return the FOUND of one part, of each hash one row, so that a piece that is everywhere takes no more memory."""
    import numpy as np

    pieces = rows_between(task.pieces[part] / PIECES, "high", task.first, task.last)
    starts = starts_run(pieces["high"], pieces["low"])
    at = np.flatnonzero(starts)
    rows = np.empty(len(at), dtype=FOUND)
    for name in ("high", "low", "document"):
        rows[name] = pieces[name][at]
    rows["part"] = part
    rows["pieces"] = np.diff(np.append(at, len(pieces)))
    new = starts | starts_run(pieces["document"])
    rows["documents"] = np.add.reduceat(new, at, dtype=np.uint32) if len(at) else 0
    return rows


def all_but_first(rows: "Rows") -> "Rows":
    """Return the LOST where only the first piece with a hash stays."""
    starts = starts_run(rows["high"], rows["low"])
    lost = ~starts | (rows["pieces"] > 1)
    return lose_all(rows[lost], rows[first_of_run(starts)[lost]])


def lose_all(rows: "Rows", winners: "Rows | None") -> "Rows":
    """Return the LOST of rows that lose their pieces to these winners; with none, to nobody."""
    import numpy as np

    losses = np.empty(len(rows), dtype=LOST)
    for name in ("part", "high", "low"):
        losses[name] = rows[name]
    losses["winner_part"] = NOBODY if winners is None else winners["part"]
    losses["winner_document"] = NOBODY if winners is None else winners["document"]
    return losses


# --- phase `filter` ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """A task: take out of one part what it loses."""

    step: Repeats
    parts: Folders
    part: int
    pieces: Folders
    buckets: Folders
    seconds: float
    """what the phases before this one took for this part"""


def _filter(task: _Filter, folder: Path) -> dict[str, JSON]:
    started = time.perf_counter()
    lost = _lost_by(task)
    part, name = task.parts[task.part], task.step.name
    if len(lost.document):
        tally = filter_part(folder, part, name, lambda texts: task.step.outcomes(texts, lost, task.parts))
    else:
        tally = pass_part(folder, part, name)
    return {"tallies": [{**tally, "seconds": task.seconds + time.perf_counter() - started}]}


def _lost_by(task: _Filter) -> Lost:
    """Find the lost pieces of a part by their hashes."""
    import numpy as np

    slices = [rows_between(task.buckets[i] / LOSSES, "part", task.part, task.part) for i in range(task.buckets.count)]
    losses = join(slices, LOST)
    pieces = rows_between(task.pieces[task.part] / PIECES, "high", 0, (1 << 64) - 1)
    at, winner = _matched(losses, pieces)
    starts = starts_run(pieces["high"], pieces["low"])[at]
    lost = ~(starts & (winner["winner_part"] == task.part))
    at, winner = at[lost], winner[lost]
    order = np.lexsort((pieces["piece"][at], pieces["document"][at]))
    at, winner = at[order], winner[order]
    return Lost(pieces["document"][at], pieces["piece"][at], winner["winner_part"], winner["winner_document"])


def _matched(losses: "Rows", pieces: "Rows") -> "tuple[NDArray[np.int64], Rows]":
    """Return the indices of the pieces whose hash is among the losses, and the loss of each."""
    import numpy as np

    high = np.concatenate([losses["high"], pieces["high"]])
    low = np.concatenate([losses["low"], pieces["low"]])
    order = np.lexsort((low, high))  # stable: a loss stands before the pieces with its hash
    first = order[first_of_run(starts_run(high[order], low[order]))]
    hit = (first < len(losses)) & (order >= len(losses))
    return order[hit] - len(losses), losses[first[hit]]
