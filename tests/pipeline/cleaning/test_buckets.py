"""Rows that parts wrote sorted by a key are read by ranges of that key: each row by one, in the order of parts."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaning import buckets
from pipeline.cleaning.buckets import (
    Folders,
    first_of_run,
    join,
    key_ranges,
    name_documents,
    rows_between,
    starts_run,
)
from pipeline.executors.resumable import Output
from pipeline.tables.documents import Documents, write_documents

ROW = [("key", "<u8"), ("number", "<u4")]


def rows_of(keys: list[int]) -> "buckets.Rows":
    rows = np.empty(len(keys), dtype=ROW)
    rows["key"], rows["number"] = keys, range(len(keys))
    return rows


# --- folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["read/000000"], ["r/000000/000000", "r/000000/000001", "r/000001/000000"], ["b", "a"]]
)
def test_folders_are_those_of_the_outputs_in_their_order(tmp_path: Path, names: list[str]) -> None:
    folders = Folders.of([Output(tmp_path / name, {}) for name in names])

    assert [folders[i] for i in range(len(folders))] == [tmp_path / name for name in names]
    assert len(folders.root) >= len(str(tmp_path)) and all(len(name) <= 15 for name in folders.names)


# --- ranges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "count"), [(0, 1), (4, 1), (5, 2), (8, 2), (9, 4), (33, 16)])
@pytest.mark.usefixtures("small_buckets")
def test_ranges_are_a_power_of_two_and_hold_every_key_once(rows: int, count: int) -> None:
    ranges = key_ranges(rows)

    assert len(ranges) == count and ranges[0][0] == 0 and ranges[-1][1] == 2**64 - 1
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ranges))


keys = st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1]), max_size=30)


@given(keys=keys, count=st.integers(0, 40))
def test_every_row_of_a_part_is_in_one_range_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, keys: list[int], count: int
) -> None:
    path = tmp_path_factory.mktemp("part") / "rows.npy"
    rows = rows_of(sorted(keys))
    np.save(path, rows)

    found = [rows_between(path, "key", first, last) for first, last in key_ranges(count << 20)]

    assert join(found, ROW).tolist() == rows.tolist()
    for part, (first, last) in zip(found, key_ranges(count << 20), strict=True):
        assert all(first <= key <= last for key in part["key"].tolist())


def test_no_slices_are_no_rows_of_the_kind_asked_for() -> None:
    assert join([], ROW).dtype == np.dtype(ROW) and len(join([], ROW)) == 0


# --- runs ----------------------------------------------------------------------------------------------------


def test_a_run_ends_where_any_column_changes() -> None:
    high, low = np.array([1, 1, 1, 2, 2]), np.array([7, 7, 8, 8, 8])

    starts = starts_run(high, low)

    assert starts.tolist() == [True, False, True, True, False]
    assert first_of_run(starts).tolist() == [0, 0, 2, 3, 3]


def test_no_rows_have_no_runs() -> None:
    starts = starts_run(np.empty(0))
    assert starts.tolist() == first_of_run(starts).tolist() == []


@given(st.lists(st.integers(0, 3), max_size=20))
def test_every_row_is_equal_to_the_first_of_its_run_and_unlike_the_one_before_that(values: list[int]) -> None:
    first = first_of_run(starts_run(np.array(values))).tolist()

    assert all(
        values[at] == value and (at == 0 or values[at - 1] != value) for at, value in zip(first, values, strict=True)
    )


# --- names ---------------------------------------------------------------------------------------------------


def test_documents_are_named_by_source_and_place_whatever_part_they_are_in(tmp_path: Path) -> None:
    outputs = []
    for part, places in enumerate((["p", "q"], ["r"])):
        (tmp_path / str(part)).mkdir()
        write_documents(
            tmp_path / str(part), Documents(["x"] * len(places), ["s"] * len(places), places, [1] * len(places))
        )
        outputs.append(Output(tmp_path / str(part), {}))

    names = name_documents(Folders.of(outputs), np.array([1, 0, 0, 1]), np.array([0, 1, 0, 0]))

    assert names == ["s r", "s q", "s p", "s r"]
    assert name_documents(Folders.of(outputs), np.array([], int), np.array([], int)) == []
