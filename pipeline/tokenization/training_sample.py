"""Machinery: sample documents of a split up to a number of bytes, the same ones wherever its parts are cut.

The documents of a split stand in an order that their content alone decides: by the second half of the id, which is half
of the SHA-256 of the text.  (The first half decides the split, so within one split it is not evenly spread.)  Taken are
the first ones of that order; they are spread over all parts and sources like the text itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.artifact import Artifact

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from jaxtyping import Int64, UInt8, UInt64

    Keys = UInt64[np.ndarray, " documents"]
    Sizes = Int64[np.ndarray, " documents"]
    """the bytes of text of each document"""

_BUCKET_BITS = 16
_KEY_BITS = 64
_ROWS = 64
"""documents handed on at a time"""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The documents of a split that were taken, and of how many."""

    last: int
    """the key of the last one in the order"""
    documents: int
    bytes: int
    of_documents: int
    of_bytes: int


def select(corpus: Artifact, split: str, budget_bytes: int | None) -> Selection:
    """Choose documents of at most `budget_bytes` bytes of text together (None: all), but at least one.

    The parts are read twice, ids and lengths only, and held one at a time; besides them memory holds the sums of
    65,536 ranges of keys and the documents of one such range.
    """
    import numpy as np

    parts = corpus.files(f"{split}-")
    sums = np.zeros(2**_BUCKET_BITS, dtype=np.int64)
    documents = 0
    for keys, sizes in map(_keys_and_sizes, parts):
        np.add.at(sums, keys >> np.uint64(_KEY_BITS - _BUCKET_BITS), sizes)
        documents += len(keys)
    total = int(sums.sum())
    if budget_bytes is None or total <= budget_bytes:
        everything = 2**_KEY_BITS - 1
        return Selection(last=everything, documents=documents, bytes=total, of_documents=documents, of_bytes=total)
    last = _last_key(parts, sums, budget_bytes)
    found = [_count_and_size(keys, sizes, last) for keys, sizes in map(_keys_and_sizes, parts)]
    return Selection(
        last=last,
        documents=sum(count for count, _ in found),
        bytes=sum(size for _, size in found),
        of_documents=documents,
        of_bytes=total,
    )


def _last_key(parts: list[Path], sums: "Int64[np.ndarray, ' buckets']", budget_bytes: int) -> int:
    """Find the range of keys in which the budget ends, and in it the last document that fits."""
    import numpy as np

    filled = np.cumsum(sums)
    bucket = int(np.searchsorted(filled, budget_bytes, side="right"))
    before = int(filled[bucket - 1]) if bucket else 0
    inside = []
    for keys, sizes in map(_keys_and_sizes, parts):
        chosen = keys >> np.uint64(_KEY_BITS - _BUCKET_BITS) == bucket
        inside += list(zip(keys[chosen].tolist(), sizes[chosen].tolist(), strict=True))
    last = (bucket << (_KEY_BITS - _BUCKET_BITS)) - 1 if before else -1
    for key, size in sorted(inside):
        if last >= 0 and before + size > budget_bytes:
            break
        before, last = before + size, key
    return last


def _count_and_size(keys: "Keys", sizes: "Sizes", last: int) -> tuple[int, int]:
    """Return how many documents of a part are taken, and the bytes of their texts."""
    import numpy as np

    chosen = keys <= np.uint64(last)
    return int(chosen.sum()), int(sizes[chosen].sum())


def _keys_and_sizes(path: Path) -> "tuple[Keys, Sizes]":
    """Return the keys of a part's documents, and the bytes of their texts."""
    import numpy as np
    import pyarrow.compute as pc

    from pipeline.tables.arrow import read_batch, values_of

    batch = read_batch(path)
    keys = [int(name[16:], 16) for name in batch.column("id").to_pylist()]
    sizes = values_of(pc.binary_length(batch.column("text")))
    return np.array(keys, dtype=np.uint64), sizes.astype(np.int64)


def read_selected(corpus: Artifact, split: str, selection: Selection) -> Iterator["pa.RecordBatch"]:
    """Yield the documents that were taken, in the order of the corpus, a few at a time."""
    import numpy as np
    import pyarrow as pa

    from pipeline.tables.arrow import read_batch

    for path in corpus.files(f"{split}-"):
        batch = read_batch(path)
        if selection.documents < selection.of_documents:
            keys, _ = _keys_and_sizes(path)
            batch = batch.filter(pa.array(keys <= np.uint64(selection.last)))
        for start in range(0, batch.num_rows, _ROWS):
            yield batch.slice(start, _ROWS)


def read_bytes(corpus: Artifact, split: str, selection: Selection) -> "Iterator[UInt8[np.ndarray, ' bytes']]":
    """Yield the UTF-8 bytes of the texts that were taken, a few documents at a time, without a copy."""
    import numpy as np

    from pipeline.tables.arrow import data_of, offsets_of

    for batch in read_selected(corpus, split, selection):
        texts = batch.column("text")
        offsets = offsets_of(texts)
        yield np.frombuffer(data_of(texts), dtype=np.uint8)[offsets[0] : offsets[-1]]


def read_texts(corpus: Artifact, split: str, selection: Selection) -> Iterator[list[str]]:
    """Yield the texts that were taken, in the order of the corpus, a few at a time."""
    for batch in read_selected(corpus, split, selection):
        yield batch.column("text").to_pylist()
