"""The split of a document is a function of its hash; a split that is asked for is never empty."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.tables.splits import SPLITS, assign_splits, fill_empty, smallest_of, split_of

ROOT = Path(__file__).parents[3]


def test_the_splits_are_named_in_one_place() -> None:
    packages = (path for package in ("pipeline", "model", "train") for path in (ROOT / package).rglob("*.py"))
    named = [
        path.relative_to(ROOT).as_posix()
        for path in packages
        if '"train", "validation", "test"' in path.read_text("utf-8")
    ]

    assert named == ["pipeline/tables/splits.py"]


def test_the_split_of_a_hash_is_where_it_falls_between_0_and_1() -> None:
    split = {"validation": 0.25, "test": 0.25}

    places = [split_of(bytes([first]) + bytes(31), split) for first in (0, 63, 64, 127, 128, 255)]

    assert places == ["validation", "validation", "test", "test", "train", "train"]


def test_a_split_that_would_be_empty_gets_the_likeliest_document() -> None:
    digests = [bytes([first]) + bytes(31) for first in (200, 150, 250)]

    assert assign_splits(digests, [{"validation": 0.01}] * 3) == ["train", "validation", "train"]


def test_a_split_is_never_emptied_to_fill_another() -> None:
    digests = [bytes([first]) + bytes(31) for first in (1, 2, 3)]

    assert sorted(assign_splits(digests, [{"validation": 0.5, "test": 0.4}] * 3)) == ["test", "train", "validation"]


def test_fewer_documents_than_splits_are_bad_data() -> None:
    with pytest.raises(DataError, match="1 different document"):
        assign_splits([bytes(32)], [{"validation": 0.5}])


digests = st.binary(max_size=8).map(lambda seed: hashlib.sha256(seed).digest())
shares = st.sampled_from([{"validation": 0.05}, {"validation": 0.2, "test": 0.2}, {"test": 0.5}])


@given(st.lists(st.tuples(digests, shares), min_size=4, max_size=40, unique_by=lambda row: row[0]), st.integers(1, 39))
def test_filling_empty_splits_part_by_part_gives_what_assigning_all_at_once_gives(
    rows: list[tuple[bytes, dict[str, float]]], cut: int
) -> None:
    parts = [rows[:cut], rows[cut:]]
    found = [[split_of(digest, share) for digest, share in part] for part in parts]
    of_parts = [
        {s: smallest_of(d for (d, _), split in zip(part, splits, strict=True) if split == s) for s in SPLITS}
        for part, splits in zip(parts, found, strict=True)
    ]
    smallest = {s: smallest_of([d for part in of_parts for d in part[s]]) for s in SPLITS}
    moved = fill_empty(Counter(s for part in found for s in part), smallest, {n for _, share in rows for n in share})

    together = [moved.get(digest, split_of(digest, share)) for digest, share in rows]

    assert together == assign_splits([digest for digest, _ in rows], [share for _, share in rows])
    assert {"train", *(name for _, share in rows for name in share)} <= set(together)
