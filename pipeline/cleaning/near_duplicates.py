"""Machinery: the cleaning step that removes near duplicates: MinHash signatures in bands, buckets, clusters, filter.

Phases of a map over parts.  `signatures`: each part writes a signature per document and a 64-bit key per band of it.
`buckets`: each range of keys reads its slice of every part; documents with a key in common are compared by their
signatures, and those alike are joined by an edge.  `clusters`: one work item joins edges to clusters, each of which
keeps its first document.  `filter`: each part leaves the others out.

Disk per document, with the default 20 bands of 6 rows: 480 bytes of signature and 240 of keys, until the end.  Memory
of a bucket: about 60 bytes per key, for 2**20 keys on average, and 60 MB to compare with; documents that all share a
key are in one bucket.  Memory of `clusters`: about 110 bytes per edge; a near duplicate has at least one of them, at
most one per band.

Why signatures: the least value of a random hash over a document's n-grams is the same for two documents with a chance
that is their Jaccard index, the n-grams in both over those in either (Broder 1997, On the resemblance and containment
of documents), so 120 numbers stand for a document of any length.  Why bands: all pairs are too many to be compared, and
a band that is equal in both is found by sorting (locality-sensitive hashing: Indyk & Motwani 1998; Leskovec, Rajaraman
& Ullman, Mining of Massive Datasets, 3.4).  Why near duplicates should go at all: Lee et al. 2021, Deduplicating
Training Data Makes Language Models Better (arXiv:2107.06499), whose n-grams these are.

Why ranges of keys, and why 64 bits: as for exact duplicates, documents with a key in common meet in one item.  A key
that is equal by chance brings a pair to be compared and no more, so 64 bits are enough.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.cleaning.buckets import (
    Folders,
    first_of_run,
    key_ranges,
    name_documents,
    rows_between,
    starts_run,
)
from pipeline.cleaning.shingles import mix, require_rensa, sign
from pipeline.cleaning.step import CorpusStep, Outcome, filter_part, pass_part
from pipeline.errors import ConfigError
from pipeline.executors.resumable import Output, Work
from pipeline.runtime.hashing import JSON
from pipeline.tables.documents import DOCUMENTS

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int64, UInt32, UInt64

    from pipeline.cleaning.buckets import Rows


BAND = [("key", "<u8"), ("document", "<u4")]
"""a band of a document's signature"""
REMOVED = [("part", "<u4"), ("document", "<u4"), ("kept_part", "<u4"), ("kept_document", "<u4")]
"""a document that is left out, and the one that is kept for it"""
KEPT = [("part", "<u4"), ("document", "<u4")]
"""the first document of a cluster"""

SIGNATURES, BANDS, EDGES = "signatures.npy", "bands.npy", "edges.npy"
REMOVALS, FIRSTS = "removals.npy", "firsts.npy"
_MOST_LEADERS = 64
"""documents with one key in common that are unlike each other and yet looked at; the next ones are left alone"""
_PAIRS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class NearDuplicates(CorpusStep):
    """Keep the first of documents that share most of their word n-grams.

    Likeness s is the Jaccard index of the sets of n-grams of words (Broder 1997).  A signature estimates it from
    bands * rows hashes with a standard error of sqrt(s (1 - s) / (bands * rows)), 0.04 for s = 0.7 and the defaults.
    Two documents are compared if one of their bands is equal (Indyk & Motwani 1998), which they are with chance
    1 - (1 - s**rows)**bands: with the defaults 0.01 for s = 0.3, 0.27 for 0.5, 0.61 for 0.6, 0.92 for 0.7, 0.98 for
    0.75 and 0.998 for 0.8.  They are near duplicates if then at least `threshold` of their signatures agree, so that
    the bands miss few and the comparison drops what the bands bring by chance.  Word 5-grams as in Lee et al. 2022;
    with them, 0.7 is a copy with one word in 26 replaced, here and there: 2 q / (1 + q) of its n-grams are left for
    a likeness of q, and (1 - p)**5 when a share p of the words is replaced.

    Likeness is not transitive, but a cluster is: of a chain of documents each like the next, only the first stays.
    """

    name: ClassVar[str] = "near_duplicates"
    packages: ClassVar[tuple[str, ...]] = ("rensa",)

    threshold: float = 0.7
    """least share of equal values in two signatures"""
    words: int = 5
    """words of an n-gram; a shorter document is compared as a whole"""
    bands: int = 20
    rows: int = 6
    """values of a signature in a band"""
    seed: int = 1
    """of the hash functions of the signatures"""

    def __post_init__(self) -> None:
        if min(self.words, self.bands, self.rows) < 1 or self.seed < 0:
            raise ConfigError(f"{self.name}: words, bands and rows must be at least 1 and seed at least 0, got {self}.")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"{self.name}: threshold must be above 0 and at most 1, got {self.threshold}.")

    @property
    def values(self) -> int:
        """Return the length of a signature."""
        return self.bands * self.rows

    def run(self, work: Work, phase: str, parts: Sequence[Output]) -> list[Output]:
        require_rensa()
        if not parts:
            return []
        items = [_Signing(step=self, part=part.folder) for part in parts]
        signed = work.map(f"{phase}.signatures", _sign, items, label=self.name)
        signatures = Folders.of(signed)
        ranges = key_ranges(sum(output.result["bands"] for output in signed))
        buckets = [_Bucket(step=self, signatures=signatures, first=a, last=z) for a, z in ranges]
        compared = work.map(f"{phase}.buckets", _compare, buckets, label=self.name)
        all_edges = [_Clusters(buckets=Folders.of(compared))]
        clustered = work.map(f"{phase}.clusters", _cluster, all_edges, label=self.name)
        share = sum(output.result["seconds"] for output in [*compared, *clustered]) / len(parts)
        folders = Folders.of(parts)
        filters = [
            _Filter(
                step=self,
                parts=folders,
                part=i,
                clusters=clustered[0].folder,
                seconds=output.result["seconds"] + share,
            )
            for i, output in enumerate(signed)
        ]
        filtered = work.map(f"{phase}.filter", _filter, filters, label=self.name)
        for outputs in (signed, compared, clustered):
            work.drop(outputs)
        return filtered


STEPS = (NearDuplicates,)


# --- phase `signatures` --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Signing:
    """A work item: the signatures of one part."""

    step: NearDuplicates
    part: Path


def _sign(item: _Signing, folder: Path) -> dict[str, JSON]:
    import numpy as np

    from pipeline.tables.arrow import read_batch

    started = time.perf_counter()
    step = item.step
    texts = read_batch(item.part / DOCUMENTS).column("text").to_pylist()
    signatures, spoken = sign(texts, words=step.words, values=step.values, seed=step.seed)
    documents = np.flatnonzero(spoken)
    rows = np.empty(len(documents) * step.bands, dtype=BAND)
    rows["key"] = hash_bands(signatures[spoken], step.bands).reshape(-1)
    rows["document"] = np.repeat(documents, step.bands)
    np.save(folder / SIGNATURES, signatures)
    np.save(folder / BANDS, rows[np.argsort(rows["key"], kind="stable")])
    return {"documents": len(texts), "bands": len(rows), "seconds": time.perf_counter() - started}


def hash_bands(
    signatures: "UInt32[np.ndarray, 'documents values']", bands: int
) -> "UInt64[np.ndarray, 'documents bands']":
    """Return a key per document and band, equal where the band and all its values are."""
    import numpy as np

    cut = signatures.reshape(len(signatures), bands, signatures.shape[1] // bands)
    keys = np.repeat(mix(np.arange(1, bands + 1, dtype=np.uint64))[None], len(cut), axis=0)
    for row in range(cut.shape[2]):
        keys = mix(keys ^ cut[:, :, row])
    return keys


# --- phase `buckets` -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    """A work item: the bands of all parts whose key is in a range."""

    step: NearDuplicates
    signatures: Folders
    first: int
    last: int


def _compare(item: _Bucket, folder: Path) -> dict[str, JSON]:
    """Write the edges, from a document to one before it that it is like.

    Documents with the same key are taken in order: each joins the first leader it is like, or becomes one itself.  So
    a template that a hundred thousand pages share costs a comparison for each of them and not for each pair, and edges
    lead to the leaders alone, which is all that clusters need.
    """
    import numpy as np

    started = time.perf_counter()
    documents, group = _shared_keys(item)
    edges = [np.empty((0, 2), dtype=np.uint64)]
    for _ in range(_MOST_LEADERS):
        if not len(documents):
            break
        starts = starts_run(group)
        leaders = documents[first_of_run(starts)]
        alike = starts.copy()
        alike[~starts] = _are_alike(item, documents[~starts], leaders[~starts])
        found = alike & (documents != leaders)
        edges.append(np.stack([documents[found], leaders[found]], axis=1))
        documents, group = documents[~alike], group[~alike]
    joined = np.unique(np.concatenate(edges), axis=0)
    np.save(folder / EDGES, joined)
    return {"edges": len(joined), "seconds": time.perf_counter() - started}


def _shared_keys(item: _Bucket) -> "tuple[UInt64[np.ndarray, ' shared'], Int64[np.ndarray, ' shared']]":
    """Return the documents that share a key with another, as part << 32 | document, and a number for each key."""
    import numpy as np

    keys = [np.empty(0, dtype=np.uint64)]
    documents = [np.empty(0, dtype=np.uint64)]
    for part in range(len(item.signatures)):
        rows = rows_between(item.signatures[part] / BANDS, "key", item.first, item.last)
        keys.append(rows["key"].copy())
        documents.append(rows["document"] | np.uint64(part << 32))
    key, document = np.concatenate(keys), np.concatenate(documents)
    order = np.argsort(key, kind="stable")
    starts = starts_run(key[order])
    group = np.cumsum(starts) - 1
    shared = np.bincount(group, minlength=1)[group] > 1
    return document[order][shared], group[shared]


def _are_alike(
    item: _Bucket, some: "UInt64[np.ndarray, ' pairs']", others: "UInt64[np.ndarray, ' pairs']"
) -> "Bool[np.ndarray, ' pairs']":
    """Tell for each pair of documents whether enough of their signatures is equal."""
    import numpy as np

    least = math.ceil(item.step.threshold * item.step.values - 1e-9)
    alike = np.empty(len(some), dtype=np.bool_)
    for start in range(0, len(some), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        equal = _signatures_of(item, some[block]) == _signatures_of(item, others[block])
        alike[block] = np.count_nonzero(equal, axis=1) >= least
    return alike


def _signatures_of(
    item: _Bucket, documents: "UInt64[np.ndarray, ' documents']"
) -> "UInt32[np.ndarray, 'documents values']":
    """Read the signatures of documents out of the files of their parts."""
    import numpy as np
    from numpy.lib.format import open_memmap

    part, row = documents >> np.uint64(32), documents & np.uint64(0xFFFFFFFF)
    signatures = np.empty((len(documents), item.step.values), dtype=np.uint32)
    for number in np.unique(part).tolist():
        here = part == number
        signatures[here] = open_memmap(item.signatures[number] / SIGNATURES, mode="r")[row[here]]
    return signatures


# --- phase `clusters` ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Clusters:
    """A work item: the edges of all buckets."""

    buckets: Folders


def _cluster(item: _Clusters, folder: Path) -> dict[str, JSON]:
    import numpy as np
    from numpy.lib.format import open_memmap

    started = time.perf_counter()
    slices = [np.asarray(open_memmap(item.buckets[i] / EDGES, mode="r")) for i in range(len(item.buckets))]
    documents, ends = np.unique(np.concatenate(slices), return_inverse=True)
    first = first_connected(len(documents), ends.reshape(-1, 2))
    repeated = first != np.arange(len(documents))
    removed = np.empty(np.count_nonzero(repeated), dtype=REMOVED)
    removed["part"], removed["document"] = _split(documents[repeated])
    removed["kept_part"], removed["kept_document"] = _split(documents[first[repeated]])
    firsts = np.empty(np.count_nonzero(~repeated), dtype=KEPT)
    firsts["part"], firsts["document"] = _split(documents[~repeated])
    np.save(folder / REMOVALS, removed)
    np.save(folder / FIRSTS, firsts)
    return {"clusters": len(firsts), "removed": len(removed), "seconds": time.perf_counter() - started}


def _split(
    documents: "UInt64[np.ndarray, ' documents']",
) -> "tuple[UInt64[np.ndarray, ' documents'], UInt64[np.ndarray, ' documents']]":
    import numpy as np

    return documents >> np.uint64(32), documents & np.uint64(0xFFFFFFFF)


def first_connected(count: int, edges: "Int64[np.ndarray, 'edges 2']") -> "Int64[np.ndarray, ' nodes']":
    """Return for each of `count` nodes the least node it is connected with.

    This is union-find for whole arrays (Shiloach & Vishkin 1982): every root takes the least root that an edge leads
    to, then every node takes the root of its root until that changes nothing.  The least node is the result whatever
    the order of the edges; a union-find node by node would need a fixed order, and a loop in Python over all edges.
    """
    import numpy as np

    first = np.arange(count)
    while True:
        lower = first.copy()
        least = np.minimum(first[edges[:, 0]], first[edges[:, 1]])
        for end in (0, 1):
            np.minimum.at(lower, first[edges[:, end]], least)
        while not np.array_equal(lower, jumped := lower[lower]):
            lower = jumped
        if np.array_equal(lower, first):
            return first
        first = lower


# --- phase `filter` ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """A work item: take out of one part what is like another document."""

    step: NearDuplicates
    parts: Folders
    part: int
    clusters: Path
    seconds: float
    """what the phases before this one took for this part"""


def _filter(item: _Filter, folder: Path) -> dict[str, JSON]:
    started = time.perf_counter()
    removed, firsts = (rows_between(item.clusters / name, "part", item.part, item.part) for name in (REMOVALS, FIRSTS))
    part, name = item.parts[item.part], item.step.name
    if len(removed) or len(firsts):
        counts = filter_part(folder, part, name, lambda texts: _outcomes(item.parts, removed, firsts, texts))
    else:
        counts = pass_part(folder, part, name)
    return {"counts": [{**counts, "seconds": item.seconds + time.perf_counter() - started}]}


def _outcomes(parts: Folders, removed: "Rows", firsts: "Rows", texts: Sequence[str]) -> Iterator[Outcome]:
    names = name_documents(parts, removed["kept_part"], removed["kept_document"])
    kept = dict(zip(removed["document"].tolist(), names, strict=True))
    first = set(firsts["document"].tolist())
    for number, text in enumerate(texts):
        if number in kept:
            yield Outcome(text, "near duplicate", same_as=kept[number])
        else:
            yield Outcome(text, counts={"clusters": 1} if number in first else {})
