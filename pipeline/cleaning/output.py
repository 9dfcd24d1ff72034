"""Machinery: output: documents that are left are split and written as the files of a corpus; rejects too."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.executors.resumable import Output, Work
from pipeline.runtime.files import link_or_copy, sync_file
from pipeline.tables.documents import DOCUMENTS
from pipeline.tables.rejects import REJECTS, REJECTS_IN_FILE
from pipeline.tables.splits import SPLITS, fill_empty, smallest_of, split_of

_DIGESTS = "digests.bin"

Named = tuple[str, Path]
"""a finished file, and what it is called in the artifact: train, validation, test or rejects"""


# --- splitting and writing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hashing:
    """A work item: the documents of a part are hashed, which names them and says their split."""

    part: Path
    shares: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class _File:
    """A work item: what consecutive parts hold of a split becomes a file of the corpus."""

    split: str
    parts: tuple[tuple[Path, Path], ...]
    """folders of documents, and of their hashes"""
    shares: dict[str, dict[str, float]]
    moved: dict[bytes, str]


def write_splits(
    work: Work, parts: Sequence[Output], *, shares: dict[str, dict[str, float]], part_bytes: int
) -> tuple[list[Named], dict[str, dict[str, int]]]:
    """Write the files of every split; return those that hold documents, and totals.

    `shares` says for every source how much of it goes to each split.
    """
    hashed = work.map("digests", _digest, [_Hashing(part.folder, shares) for part in parts], label="hashing")
    pages = [output.result for output in hashed]
    smallest = {
        split: smallest_of(bytes.fromhex(d) for page in pages for d in page["smallest"].get(split, ()))
        for split in SPLITS
    }
    counts = _sums([page["documents"] for page in pages])
    moved = fill_empty(counts, smallest, {name for share in shares.values() for name in share})
    folders = [(part.folder, digests.folder) for part, digests in zip(parts, hashed, strict=True)]
    items: list[_File] = []
    for split in SPLITS:
        # What moves may be in any part; that happens in a corpus of a few documents only.
        with_some = [i for i, page in enumerate(pages) if moved or split in page["documents"]]
        sizes = [pages[i]["bytes"].get(split, 0) for i in with_some]
        for group in _consecutive(sizes, part_bytes):
            mine = tuple(folders[with_some[i]] for i in group)
            items.append(_File(split=split, parts=mine, shares=shares, moved=moved))
    written = work.map("write", _write, items, label="writing")
    found = [(item.split, *output) for item, output in zip(items, written, strict=True) if output.result["documents"]]
    totals = {
        name: _sums([{split: page[name]} for split, _, page in found if page[name]])
        for name in ("documents", "bytes", "characters")
    }
    return [(split, folder / DOCUMENTS) for split, folder, _ in found], totals


def _consecutive(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Group consecutive indices while their sizes add up to at most `limit`."""
    group: list[int] = []
    size = 0
    for i, more in enumerate(sizes):
        if group and size + more > limit:
            yield group
            group, size = [], 0
        group.append(i)
        size += more
    if group:
        yield group


def _sums(pages: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for page in pages:
        total.update(page)
    return {split: total[split] for split in SPLITS if split in total}


def _digest(item: _Hashing, folder: Path) -> dict[str, Any]:
    """Write the SHA-256 of every document; count documents and bytes by split."""
    from pipeline.tables.arrow import bytes_of, read_batch

    batch = read_batch(item.part / DOCUMENTS)
    texts = list(bytes_of(batch.column("text")))
    digests = [hashlib.sha256(text).digest() for text in texts]
    (folder / _DIGESTS).write_bytes(b"".join(digests))
    sources = batch.column("source").to_pylist()
    splits = [split_of(d, item.shares[source]) for d, source in zip(digests, sources, strict=True)]
    size: Counter[str] = Counter()
    for split, text in zip(splits, texts, strict=True):
        size[split] += len(text)
    smallest = {s: smallest_of(d for d, split in zip(digests, splits, strict=True) if split == s) for s in size}
    return {
        "documents": Counter(splits),
        "bytes": size,
        "smallest": {split: [d.hex() for d in found] for split, found in smallest.items()},
    }


def _write(file: _File, folder: Path) -> dict[str, Any]:
    """Write one file of a split: one record batch."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from pipeline.tables.arrow import numbers, one_batch, read_batch, strings, write_batch
    from pipeline.tables.features import batch_with_features

    chosen: list[pa.RecordBatch] = []
    for part, hashed in file.parts:
        batch = read_batch(part / DOCUMENTS)
        digests = (hashed / _DIGESTS).read_bytes()
        ids: list[str] = []
        rows: list[int] = []
        for i, source in enumerate(batch.column("source").to_pylist()):
            digest = digests[32 * i : 32 * i + 32]
            if file.moved.get(digest, split_of(digest, file.shares[source])) == file.split:
                ids.append(digest.hex()[:32])
                rows.append(i)
        mine = batch.take(numbers(np.array(rows, dtype=np.int64)))
        chosen.append(pa.RecordBatch.from_arrays([strings(ids), *mine.columns], names=["id", *mine.schema.names]))
    batch = one_batch(chosen)
    write_batch(folder / DOCUMENTS, batch_with_features(batch))
    sync_file(folder / DOCUMENTS)  # now, while others compute, and not when all of it is published
    texts = batch.column("text")
    size, characters = (pc.sum(of(texts)).as_py() or 0 for of in (pc.binary_length, pc.utf8_length))
    return {"documents": len(batch), "bytes": size, "characters": characters}


# --- rejects -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rejected:
    """A work item: the rejects of some parts become a file."""

    folders: tuple[Path, ...]


def join_rejects(work: Work, phase_outputs: Sequence[Sequence[Output]]) -> list[Named]:
    """Join the rejects of all phases, in order, into files of some ten thousand."""
    with_some = [(part.folder, count) for outputs in phase_outputs for part in outputs if (count := _rejected_in(part))]
    groups = _consecutive([count for _, count in with_some], REJECTS_IN_FILE)
    items = [_Rejected(folders=tuple(with_some[i][0] for i in group)) for group in groups]
    return [("rejects", output.folder / REJECTS) for output in work.map("rejects", _join, items, label="writing")]


def _rejected_in(part: Output) -> int:
    return sum(sum(counts["rejected"].values()) for counts in part.result["counts"])


def _join(item: _Rejected, folder: Path) -> dict[str, Any]:
    from pipeline.tables.arrow import one_batch, read_batch, write_batch

    batch = one_batch([read_batch(path / REJECTS) for path in item.folders])
    write_batch(folder / REJECTS, batch)
    return {"rejects": len(batch)}


# --- what is published ---------------------------------------------------------------------------------------


def collect(files: Sequence[Named], target: Path) -> None:
    """Link the finished files into the artifact, numbered by name; they stay where they are for a rerun."""
    from pipeline.tables.arrow import part_name

    totals = Counter(name for name, _ in files)
    numbers: Counter[str] = Counter()
    for name, path in files:
        link_or_copy(path, target / part_name(name, numbers[name], totals[name]))
        numbers[name] += 1
