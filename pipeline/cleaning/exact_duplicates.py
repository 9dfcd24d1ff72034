"""Machinery: equal spans of documents (whole documents, paragraphs, lines) are found across parts, in phases of a map.

`spans`: each part hashes its spans and writes (hash, document, span), sorted by hash.  `buckets`: each range of hashes
reads its slice of every part and writes which hashes are removed from which part, and where they are kept.  `filter`:
each part finds the spans to remove by hash.

Why ranges of hashes: equal spans have equal hashes, so a range of them can be decided without looking at any other, and
as hashes are evenly spread, ranges of equal width hold about equally much; this is the shuffle of a map-reduce (Dean &
Ghemawat 2004), by files that each reader takes a slice of.  A sorted file needs no index for that.

Why 128 bits: a hash is the first 128 bits of SHA-256, and texts of one hash are taken for equal without being compared.
Two of n different spans have the same with a chance of n * n / 2**129 (the birthday bound), about 1 in 10**13 for the
10**13 lines of a web crawl; with 64 bits it would be certain long before.

Why the first stays: parts are in the order of the sources, and a bucket takes rows in the order of parts and documents,
so what is kept depends neither on the number of workers nor on the width of the ranges.

Disk: 24 bytes per span, until the end.  Memory of a bucket: about 130 bytes per hash and part that it is in, for
2**20 of them on average; a span that is everywhere counts once per part.  Memory of a filter: a part's documents,
twice, and its spans.
"""

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline.cleaning.buckets import Folders, first_of_run, join, key_ranges, rows_between, starts_run
from pipeline.cleaning.step import CorpusStep, Outcome, filter_part, pass_part
from pipeline.executors.resumable import Output, Work
from pipeline.runtime.hashing import JSON
from pipeline.tables.documents import DOCUMENTS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from jaxtyping import Int64, UInt32

    from pipeline.cleaning.buckets import Rows

    Digests: TypeAlias = tuple[list[bytes], UInt32[np.ndarray, " spans"], UInt32[np.ndarray, " spans"]]
    """the hash of every span, the document it is in, and its number there"""

SPAN = [("high", "<u8"), ("low", "<u8"), ("document", "<u4"), ("span", "<u4")]
"""a span of a part: its hash, and where it stands"""
FOUND = [("high", "<u8"), ("low", "<u8"), ("part", "<u4"), ("document", "<u4"), ("spans", "<u4"), ("documents", "<u4")]
"""a hash in a part: the first document that has it, and how many spans and documents have it"""
REMOVED = [("part", "<u4"), ("high", "<u8"), ("low", "<u8"), ("kept_part", "<u4"), ("kept_document", "<u4")]
"""a hash removed from a part, and the document where it is kept; if that is in the same part, its first span stays"""
NO_DOCUMENT = 0xFFFFFFFF
"""the part where a hash is kept when every span with it is removed"""

SPANS, REMOVALS = "spans.npy", "removals.npy"


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates(CorpusStep):
    """A step that finds equal spans; what a span is and which are removed, a step of its own says."""

    def run(self, work: Work, phase: str, parts: Sequence[Output]) -> list[Output]:
        if not parts:
            return []
        hashed = work.map(
            f"{phase}.spans", _hash, [_Hashing(step=self, part=part.folder) for part in parts], label=self.name
        )
        documents, count = (sum(output.result[name] for output in hashed) for name in ("documents", "spans"))
        spans = Folders.of(hashed)
        compared = work.map(
            f"{phase}.buckets",
            _compare,
            [_Bucket(step=self, spans=spans, first=a, last=z, documents=documents) for a, z in key_ranges(count)],
            label=self.name,
        )
        share = sum(output.result["seconds"] for output in compared) / len(parts)
        folders, buckets = Folders.of(parts), Folders.of(compared)
        filters = [
            _Filter(
                step=self,
                parts=folders,
                part=i,
                spans=spans,
                buckets=buckets,
                seconds=output.result["seconds"] + share,
            )
            for i, output in enumerate(hashed)
        ]
        filtered = work.map(f"{phase}.filter", _filter, filters, label=self.name)
        work.drop(hashed)
        work.drop(compared)
        return filtered

    @abstractmethod
    def digest(self, texts: "pa.StringArray") -> "Digests":
        """Return the hash of every span in an Arrow column of texts, the document it is in, and its number there."""

    @abstractmethod
    def remove(self, rows: "Rows", documents: int) -> "Rows":
        """Return what is REMOVED of a bucket's FOUND, which come sorted by hash and part; `documents` are in all."""

    @abstractmethod
    def outcomes(self, texts: Sequence[str], removed: "Removed", parts: Folders) -> Iterator[Outcome]:
        """Yield what becomes of each text of a part."""


@dataclass(frozen=True)
class Removed:
    """The spans removed from a part, in the order of documents and spans, column by column."""

    document: "UInt32[np.ndarray, ' spans']"
    span: "UInt32[np.ndarray, ' spans']"
    kept_part: "UInt32[np.ndarray, ' spans']"
    kept_document: "UInt32[np.ndarray, ' spans']"


# --- phase `spans` -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Hashing:
    """A work item: the spans of one part."""

    step: ExactDuplicates
    part: Path


def _hash(item: _Hashing, folder: Path) -> dict[str, JSON]:
    import numpy as np

    from pipeline.tables.arrow import read_batch

    started = time.perf_counter()
    texts = read_batch(item.part / DOCUMENTS).column("text")
    digests, document, span = item.step.digest(texts)
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 4)
    rows = np.empty(len(hashes), dtype=SPAN)
    rows["high"], rows["low"], rows["document"], rows["span"] = hashes[:, 0], hashes[:, 1], document, span
    np.save(folder / SPANS, rows[_by_hash(rows)])
    return {"documents": len(texts), "spans": len(rows), "seconds": time.perf_counter() - started}


def _by_hash(rows: "Rows") -> "Int64[np.ndarray, ' rows']":
    """Return the order by hash; rows with the same hash stay in the order they have."""
    import numpy as np

    return np.lexsort((rows["low"], rows["high"]))


# --- phase `buckets` -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """A work item: the spans of all parts whose hash is in a range."""

    step: ExactDuplicates
    spans: Folders
    first: int
    last: int
    documents: int


def _compare(item: _Bucket, folder: Path) -> dict[str, JSON]:
    import numpy as np

    started = time.perf_counter()
    slices = [_found_in(item, part) for part in range(len(item.spans))]
    rows = join(slices, FOUND)
    removed = item.step.remove(rows[_by_hash(rows)], item.documents)
    np.save(folder / REMOVALS, removed[np.argsort(removed["part"], kind="stable")])
    return {"removed": len(removed), "seconds": time.perf_counter() - started}


def _found_in(item: _Bucket, part: int) -> "Rows":
    """Return the FOUND of one part, of each hash one row, so that a span that is everywhere takes no more memory."""
    import numpy as np

    spans = rows_between(item.spans[part] / SPANS, "high", item.first, item.last)
    starts = starts_run(spans["high"], spans["low"])
    at = np.flatnonzero(starts)
    rows = np.empty(len(at), dtype=FOUND)
    for name in ("high", "low", "document"):
        rows[name] = spans[name][at]
    rows["part"] = part
    rows["spans"] = np.diff(np.append(at, len(spans)))
    new = starts | starts_run(spans["document"])
    rows["documents"] = np.add.reduceat(new, at, dtype=np.uint32) if len(at) else 0
    return rows


def all_but_first(rows: "Rows") -> "Rows":
    """Return the REMOVED where only the first span with a hash stays."""
    starts = starts_run(rows["high"], rows["low"])
    repeated = ~starts | (rows["spans"] > 1)
    return remove_rows(rows[repeated], rows[first_of_run(starts)[repeated]])


def remove_rows(rows: "Rows", kept: "Rows | None") -> "Rows":
    """Return the REMOVED of these rows, whose hashes stay in the rows `kept`, or nowhere."""
    import numpy as np

    removed = np.empty(len(rows), dtype=REMOVED)
    for name in ("part", "high", "low"):
        removed[name] = rows[name]
    removed["kept_part"] = NO_DOCUMENT if kept is None else kept["part"]
    removed["kept_document"] = NO_DOCUMENT if kept is None else kept["document"]
    return removed


# --- phase `filter` ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """A work item: take out of one part what is removed from it."""

    step: ExactDuplicates
    parts: Folders
    part: int
    spans: Folders
    buckets: Folders
    seconds: float
    """what the phases before this one took for this part"""


def _filter(item: _Filter, folder: Path) -> dict[str, JSON]:
    started = time.perf_counter()
    removed = _removed_from(item)
    part, name = item.parts[item.part], item.step.name
    if len(removed.document):
        counts = filter_part(folder, part, name, lambda texts: item.step.outcomes(texts, removed, item.parts))
    else:
        counts = pass_part(folder, part, name)
    return {"counts": [{**counts, "seconds": item.seconds + time.perf_counter() - started}]}


def _removed_from(item: _Filter) -> Removed:
    """Find the spans to remove from a part by their hashes."""
    import numpy as np

    slices = [rows_between(item.buckets[i] / REMOVALS, "part", item.part, item.part) for i in range(len(item.buckets))]
    spans = rows_between(item.spans[item.part] / SPANS, "high", 0, (1 << 64) - 1)
    at, removed = _matched(join(slices, REMOVED), spans)
    # Equal spans of a part stand in the order of its documents: where the hash is kept in this part, the first stays.
    starts = starts_run(spans["high"], spans["low"])[at]
    goes = ~(starts & (removed["kept_part"] == item.part))
    at, removed = at[goes], removed[goes]
    order = np.lexsort((spans["span"][at], spans["document"][at]))
    at, removed = at[order], removed[order]
    return Removed(spans["document"][at], spans["span"][at], removed["kept_part"], removed["kept_document"])


def _matched(removals: "Rows", spans: "Rows") -> "tuple[Int64[np.ndarray, ' matches'], Rows]":
    """Return the indices of the spans whose hash is among the removals, and the removal of each."""
    import numpy as np

    high = np.concatenate([removals["high"], spans["high"]])
    low = np.concatenate([removals["low"], spans["low"]])
    order = np.lexsort((low, high))  # stable: a removal stands before the spans with its hash
    first = order[first_of_run(starts_run(high[order], low[order]))]
    hit = (first < len(removals)) & (order >= len(removals))
    return order[hit] - len(removals), removals[first[hit]]
