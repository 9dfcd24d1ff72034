"""Machinery: which split a document is in: a function of its hash, so the same text is in the same one everywhere."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipeline.errors import DataError

SPLITS = ("train", "validation", "test")


def by_split(numbers: Mapping[str, int]) -> str:
    """Write the numbers of the splits for a person, in their order: "1,200 + 60"."""
    return " + ".join(f"{numbers[split]:,}" for split in SPLITS if split in numbers)


def split_of(digest: bytes, split: Mapping[str, float]) -> str:
    """Return the split of a document from its SHA-256 and its source's shares."""
    position = int.from_bytes(digest[:8], "big") / 2**64
    for name in SPLITS[1:]:
        share = split.get(name, 0.0)
        if position < share:
            return name
        position -= share
    return "train"


def assign_splits(digests: Sequence[bytes], shares: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the split of every document; one that is asked for and would be empty gets the likeliest document.

    Raises DataError when there are fewer documents than splits.
    """
    found = [split_of(digest, share) for digest, share in zip(digests, shares, strict=True)]
    smallest = {split: smallest_of(d for d, s in zip(digests, found, strict=True) if s == split) for split in SPLITS}
    moved = fill_empty(Counter(found), smallest, {name for share in shares for name in share})
    return [moved.get(digest, split) for digest, split in zip(digests, found, strict=True)]


def smallest_of(digests: Iterable[bytes]) -> list[bytes]:
    """Return the few smallest hashes: as many as can ever be moved to other splits."""
    return heapq.nsmallest(len(SPLITS), digests)


def fill_empty(counts: Mapping[str, int], smallest: Mapping[str, list[bytes]], asked: set[str]) -> dict[bytes, str]:
    """Return which documents move so that every split that is asked for has one.

    `smallest` holds the few smallest hashes of each split.  Raises DataError for fewer documents than splits.
    """
    wanted = ["train", *sorted(asked)]
    counts = Counter(counts)
    if counts.total() < len(wanted):
        raise DataError(
            f"The sources hold {counts.total()} different document(s), and the splits {', '.join(wanted)} need one "
            "each. Add text, or cut it into documents with --documents blocks."
        )
    home = {digest: split for split, digests in smallest.items() for digest in digests}
    moved: dict[bytes, str] = {}
    for name in wanted:
        if counts[name] == 0:
            spare = min(digest for digest, split in home.items() if counts[split] > 1)
            counts.update({home[spare]: -1, name: 1})
            home[spare] = moved[spare] = name
    return moved
