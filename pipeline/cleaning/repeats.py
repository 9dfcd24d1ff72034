"""Machinery: the cleaning steps that remove what stands more than once: documents, paragraphs, lines.

One machinery for the three, in phases of a map over parts.  `items`: each part hashes its pieces (documents, paragraphs
or lines) and writes (hash, document, piece), sorted by hash.  `buckets`: each range of hashes reads its slice of every
part and writes which hashes are lost in which part, and to whom.  `filter`: each part finds its lost pieces by hash.

A hash is the first 128 bits of SHA-256.  Two of n different pieces are taken for equal with a chance of n * n / 2**129:
1 in 10**13 for the 10**13 lines of a web crawl.

Disk: 24 bytes per piece, until the end.  Memory of a bucket: about 130 bytes per hash and part that it is in, for
2**20 of them on average; a piece that is everywhere counts once per part.  Memory of a filter: a part's documents,
twice, and its pieces.
"""

import itertools
import math
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.artifacts.identity import JSON
from pipeline.cleaning.buckets import (
    Folders,
    first_of_run,
    join,
    key_ranges,
    name_documents,
    rows_between,
    starts_run,
)
from pipeline.cleaning.step import DOCUMENTS, CorpusStep, Outcome, Rejects, read_documents, settle, write_part
from pipeline.errors import ConfigError
from pipeline.work import Work

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
_PARAGRAPHS = re.compile(r"(\n(?:[^\S\n]*\n)+)")


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
        work.map(
            last,
            _filter,
            [
                _Filter(
                    step=self,
                    parts=Folders.of(parts),
                    part=i,
                    pieces=pieces,
                    buckets=Folders.made_by(work, buckets, len(ranges)),
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


# --- the three steps -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExactDocuments(Repeats):
    """Keep the first of equal documents, in the order of the corpus."""

    name: ClassVar[str] = "exact_documents"

    def digest(self, texts: Any) -> "tuple[list[bytes], NDArray[np.uint32], NDArray[np.uint32]]":
        import numpy as np

        if not len(texts):
            return [], np.empty(0, np.uint32), np.empty(0, np.uint32)
        _, offsets, data = texts.buffers()
        ends = memoryview(offsets).cast("i")[texts.offset : texts.offset + len(texts) + 1].tolist()
        view = memoryview(data if data is not None else b"")
        digests = [sha256(view[a:z]).digest() for a, z in itertools.pairwise(ends)]
        return digests, np.arange(len(texts), dtype=np.uint32), np.zeros(len(texts), np.uint32)

    def lose(self, rows: "Rows", documents: int) -> "Rows":
        return _all_but_first(rows)

    def outcomes(self, texts: Sequence[str], lost: Lost, parts: Folders) -> Iterator[Outcome]:
        names = name_documents(parts, lost.winner_part, lost.winner_document)
        winners = dict(zip(lost.document.tolist(), names, strict=True))
        for number, text in enumerate(texts):
            same_as = winners.get(number)
            yield Outcome(text) if same_as is None else Outcome(text, "exact duplicate", same_as=same_as)


@dataclass(frozen=True, kw_only=True)
class ExactParagraphs(Repeats):
    """Keep the first of equal paragraphs in the whole corpus, where they are long enough to be no chance.

    Blank lines part paragraphs; spaces around them do not matter.  As in CCNet (Wenzek et al. 2020).
    """

    name: ClassVar[str] = "exact_paragraphs"
    changes_text: ClassVar[bool] = True

    min_characters: int = 100
    """shorter paragraphs stay: dialogue, headings and verse say the same with good reason"""

    def __post_init__(self) -> None:
        _check_length(self.name, self.min_characters)

    def digest(self, texts: Any) -> "tuple[list[bytes], NDArray[np.uint32], NDArray[np.uint32]]":
        return _digest_pieces(texts, split_paragraphs, self.min_characters)

    def lose(self, rows: "Rows", documents: int) -> "Rows":
        return _all_but_first(rows)

    def outcomes(self, texts: Sequence[str], lost: Lost, parts: Folders) -> Iterator[Outcome]:
        return _without(texts, lost, _drop_paragraphs, "paragraphs removed", "only repeated paragraphs")


@dataclass(frozen=True, kw_only=True)
class BoilerplateLines(Repeats):
    """Remove lines that stand in many documents: headers, footers, menus, licences; no copy is kept.

    Spaces around a line do not matter; a line that a document repeats counts once in it.
    """

    name: ClassVar[str] = "boilerplate_lines"
    changes_text: ClassVar[bool] = True

    min_characters: int = 20
    """shorter lines stay: headings, and lines of dialogue that many stories have"""
    min_documents: int = 10
    """a line is boilerplate from this many documents on"""
    min_fraction: float = 0.0
    """and from this share of the documents on, whichever is more"""

    def __post_init__(self) -> None:
        _check_length(self.name, self.min_characters)
        if self.min_documents < 2 or not 0 <= self.min_fraction <= 1:
            raise ConfigError(f"{self.name}: min_documents must be at least 2, min_fraction from 0 to 1, got {self}.")

    def digest(self, texts: Any) -> "tuple[list[bytes], NDArray[np.uint32], NDArray[np.uint32]]":
        return _digest_pieces(texts, split_lines, self.min_characters)

    def lose(self, rows: "Rows", documents: int) -> "Rows":
        import numpy as np

        least = max(self.min_documents, math.ceil(self.min_fraction * documents))
        starts = starts_run(rows["high"], rows["low"])
        at = np.flatnonzero(starts)
        frequent = np.add.reduceat(rows["documents"], at, dtype=np.int64) >= least if len(rows) else at
        return _losses(rows[np.repeat(frequent, np.diff(np.append(at, len(rows))))], None)

    def outcomes(self, texts: Sequence[str], lost: Lost, parts: Folders) -> Iterator[Outcome]:
        return _without(texts, lost, _drop_lines, "lines removed", "only boilerplate lines")


STEPS = (ExactDocuments, ExactParagraphs, BoilerplateLines)


def _check_length(name: str, characters: int) -> None:
    if characters < 1:
        raise ConfigError(f"{name}: min_characters must be at least 1, got {characters}.")


# --- pieces of a text ----------------------------------------------------------------------------------------


def split_paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text and what parts them, by turns."""
    return _PARAGRAPHS.split(text)


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, without their ends."""
    return text.split("\n")


def _drop_paragraphs(text: str, lost: set[int]) -> str:
    """Return the other paragraphs, each but the first with what parted it from the one before."""
    pieces = split_paragraphs(text)
    left = [i for i in range(0, len(pieces), 2) if i not in lost]
    return "".join(piece for i in left for piece in pieces[i - 1 if i > left[0] else i : i + 1])


def _drop_lines(text: str, lost: set[int]) -> str:
    return "\n".join(line for i, line in enumerate(split_lines(text)) if i not in lost)


def _without(
    texts: Sequence[str], lost: Lost, drop: Callable[[str, set[int]], str], what: str, reason: str
) -> Iterator[Outcome]:
    """Yield each text without its lost pieces; one of which no letter is left is rejected."""
    pieces: dict[int, set[int]] = {}
    for document, piece in zip(lost.document.tolist(), lost.piece.tolist(), strict=True):
        pieces.setdefault(document, set()).add(piece)
    for number, text in enumerate(texts):
        if number not in pieces:
            yield Outcome(text)
            continue
        left = drop(text, pieces[number])
        yield Outcome(left, "" if left.strip() else reason, counts={what: len(pieces[number])})


def _digest_pieces(
    texts: Any, split: Callable[[str], Iterable[str]], least: int
) -> "tuple[list[bytes], NDArray[np.uint32], NDArray[np.uint32]]":
    import numpy as np

    digests: list[bytes] = []
    numbers: list[int] = []
    counts: list[int] = []
    for text in texts:
        long = [(i, piece) for i, piece in enumerate(map(str.strip, split(text.as_py()))) if len(piece) >= least]
        digests += [sha256(piece.encode("utf-8")).digest() for _, piece in long]
        numbers += [i for i, _ in long]
        counts.append(len(long))
    documents = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
    return digests, documents, np.array(numbers, dtype=np.uint32)


# --- phase `items` -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A task: the pieces of one part."""

    step: Repeats
    folder: Path


def _find(task: _Part, folder: Path) -> dict[str, JSON]:
    import numpy as np

    from pipeline.arrow import read_batch

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


def _all_but_first(rows: "Rows") -> "Rows":
    """Return the losses where only the first piece with a hash stays."""
    starts = starts_run(rows["high"], rows["low"])
    lost = ~starts | (rows["pieces"] > 1)
    return _losses(rows[lost], rows[first_of_run(starts)[lost]])


def _losses(rows: "Rows", winners: "Rows | None") -> "Rows":
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
    documents = read_documents(task.parts[task.part])
    rejects = Rejects()
    outcomes = task.step.outcomes(documents.texts, lost, task.parts)
    documents, tally = settle(task.step.name, documents, outcomes, rejects)
    write_part(folder, documents, rejects)
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
