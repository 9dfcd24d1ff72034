"""Machinery: what was left out of a corpus: counts and examples by step and reason, and clusters of duplicates."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.artifact import Artifact
from pipeline.reporting.texts import document_files, slices
from pipeline.reporting.wording import excerpt
from pipeline.tables.rejects import EXCERPT

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 3
"""examples of a reason, and copies in a cluster"""
_KEYS_AT_ONCE = 2**20


@dataclass(frozen=True, kw_only=True)
class Example:
    """The start of a document, and where it came from."""

    source: str
    place: str
    excerpt: str


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why documents were left out by a step, how many, and the first of them."""

    step: str
    reason: str
    documents: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A document that was kept, and what was left out because it is the same."""

    key: str
    """SOURCE PLACE of the one kept"""
    copies: int
    reasons: dict[str, int]
    kept: Example | None
    later: str = ""
    """why the one kept was itself left out by a later step"""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """All clusters of duplicates, and the largest ones closely."""

    clusters: int
    copies: int
    sizes: dict[str, int] = field(default_factory=dict)
    """how many clusters have so many copies"""
    is_exact: bool = True
    """false when there were too many to count in memory; then small ones are missing"""
    largest: tuple[Cluster, ...] = ()


def _rejects(artifact: Artifact) -> "Iterator[pa.RecordBatch]":
    for path in artifact.files("rejects-"):
        yield from slices(path)


def count_reasons(artifact: Artifact) -> tuple[Reason, ...]:
    """Count the rejects by step and reason, in the order of the files, with the first examples of each."""
    import pyarrow as pa

    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[Example]] = {}
    for batch in _rejects(artifact):
        table = pa.Table.from_batches([batch])
        for row in table.group_by(["step", "reason"]).aggregate([([], "count_all")]).to_pylist():
            key = (row["step"], row["reason"])
            counts[key] += row["count_all"]
            shown = examples.setdefault(key, [])
            if len(shown) < SHOWN:
                shown.extend(_examples(batch, key, SHOWN - len(shown)))
    return tuple(
        Reason(step=step, reason=reason, documents=count, examples=tuple(examples[step, reason]))
        for (step, reason), count in counts.most_common()
    )


def _examples(batch: "pa.RecordBatch", key: tuple[str, str], most: int) -> list[Example]:
    import pyarrow.compute as pc

    wanted = pc.and_(pc.equal(batch.column("step"), key[0]), pc.equal(batch.column("reason"), key[1]))
    return [_example(row) for row in batch.filter(wanted).slice(0, most).to_pylist()]


def _example(row: Mapping[str, Any]) -> Example:
    start = excerpt(row["excerpt"], EXCERPT) if "excerpt" in row else excerpt(row["text"][:400], 400)
    return Example(source=row["source"], place=row["place"], excerpt=start)


# --- clusters ------------------------------------------------------------------------------------------------


def find_clusters(artifact: Artifact, most: int = 6) -> Clusters:
    """Group the duplicates by the document that was kept; the `most` largest clusters come with their texts."""
    counts, is_exact = _count_keys(artifact)
    if not counts:
        return Clusters(clusters=0, copies=0)
    top = {key for key, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]}
    found = _with_copies(artifact, top)
    kept = _kept_documents(artifact, set(found))
    later = _left_out_later(artifact, set(found) - set(kept))
    largest = [
        replace(cluster, kept=kept.get(key) or later.get(key, (None, ""))[0], later=later.get(key, (None, ""))[1])
        for key, cluster in found.items()
    ]
    return Clusters(
        clusters=len(counts),
        copies=sum(counts.values()),
        sizes=_sizes(counts),
        is_exact=is_exact,
        largest=tuple(sorted(largest, key=lambda cluster: (-cluster.copies, cluster.key))),
    )


def _count_keys(artifact: Artifact) -> tuple[Counter[bytes], bool]:
    """Count the copies of each kept document by a hash of its key; when there are too many, forget the rarest."""
    counts: Counter[bytes] = Counter()
    is_exact = True
    for keys in _keys(artifact):
        for row in keys.value_counts().to_pylist():
            if row["values"]:
                counts[_hash(row["values"])] += row["counts"]
        floor = 1
        while len(counts) > _KEYS_AT_ONCE:
            counts = Counter({key: count for key, count in counts.items() if count > floor})
            floor, is_exact = floor + 1, False
    return counts, is_exact


def _keys(artifact: Artifact) -> "Iterator[pa.Array]":
    return (batch.column("same_as") for batch in _rejects(artifact) if "same_as" in batch.schema.names)


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()


def _sizes(counts: Mapping[bytes, int]) -> dict[str, int]:
    names = ((1, "1 copy"), (3, "2 to 3"), (9, "4 to 9"), (99, "10 to 99"))
    sizes = Counter(next((name for most, name in names if n <= most), "100 and more") for n in counts.values())
    return {name: sizes[name] for name in (*(name for _, name in names), "100 and more") if sizes[name]}


def _with_copies(artifact: Artifact, top: set[bytes]) -> dict[str, Cluster]:
    found: dict[str, Cluster] = {}
    for batch in _rejects(artifact):
        if "same_as" not in batch.schema.names:
            continue
        rows = [i for i, key in enumerate(batch.column("same_as").to_pylist()) if key and _hash(key) in top]
        for row in batch.take(rows).to_pylist() if rows else []:
            key = row["same_as"]
            cluster = found.get(key) or Cluster(key=key, copies=0, reasons={}, kept=None)
            why = f"{row['step']}: {row['reason']}"
            examples = cluster.examples if len(cluster.examples) == SHOWN else (*cluster.examples, _example(row))
            reasons = {**cluster.reasons, why: cluster.reasons.get(why, 0) + 1}
            found[key] = replace(cluster, copies=cluster.copies + 1, reasons=reasons, examples=examples)
    return found


def _matching(batch: "pa.RecordBatch", keys: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows whose SOURCE PLACE is one of `keys`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = pc.binary_join_element_wise(batch.column("source"), batch.column("place"), " ")
    rows = pc.indices_nonzero(pc.is_in(names, value_set=pa.array(sorted(keys), type=pa.string())))
    for row in batch.take(rows).to_pylist():
        yield f"{row['source']} {row['place']}", row


def _kept_documents(artifact: Artifact, keys: set[str]) -> dict[str, Example]:
    found: dict[str, Example] = {}
    for _, path in document_files(artifact):
        for batch in slices(path):
            if len(found) == len(keys) or "place" not in batch.schema.names:
                return found
            found.update((key, _example(row)) for key, row in _matching(batch, keys))
    return found


def _left_out_later(artifact: Artifact, keys: set[str]) -> dict[str, tuple[Example, str]]:
    """Find the documents that stood for their copies and were then left out themselves."""
    found: dict[str, tuple[Example, str]] = {}
    if keys:
        for batch in _rejects(artifact):
            for key, row in _matching(batch, keys):
                found[key] = (_example(row), f"{row['step']}: {row['reason']}")
    return found
