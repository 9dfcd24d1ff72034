"""Columns are made and read without a copy or pandas, and a file holds one record batch or is refused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.tables import arrow
from pipeline.tables.arrow import (
    PartWriter,
    bytes_of,
    numbers,
    offsets_of,
    one_batch,
    part_name,
    read_batch,
    string_batch,
    strings,
    values_of,
    write_batch,
)

TEXTS = ["one", "", "zwölf\n", "三", "\x00"]


# --- columns -------------------------------------------------------------------------------------------------


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=20))
def test_a_column_of_texts_is_what_arrow_itself_makes_of_them(texts: list[str]) -> None:
    column = strings(texts)

    column.validate(full=True)
    assert column.equals(pa.array(texts, pa.string())) and column.to_pylist() == texts


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64", "float64"])
def test_a_column_of_numbers_is_what_arrow_itself_makes_of_them(dtype: str) -> None:
    values = np.arange(5, dtype=dtype)
    assert numbers(values).equals(pa.array(values)) and len(numbers(values[:0])) == 0


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("cut", [slice(0, 5), slice(1, 4), slice(3, 3), slice(5, 5)])
def test_where_texts_begin_is_known_also_of_a_slice_and_of_large_strings(kind: pa.DataType, cut: slice) -> None:
    column = pa.array(TEXTS, kind)[cut]

    offsets = offsets_of(column)

    data = "".join(TEXTS).encode()
    spans = [data[a:z].decode() for a, z in pairwise(offsets)]
    assert spans == TEXTS[cut] and len(offsets) == len(column) + 1
    assert [bytes(text).decode() for text in bytes_of(column)] == TEXTS[cut]


def test_the_bytes_of_many_texts_come_in_order_over_the_edges_of_what_is_read_at_once() -> None:
    texts = [str(i) for i in range(2**14 + 3)]
    assert [bytes(text).decode() for text in bytes_of(strings(texts))] == texts


def test_more_text_than_a_file_holds_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_MOST_BYTES", 10)
    assert len(strings(["x" * 5, "é" * 2])) == 2
    with pytest.raises(DataError, match=r"^11 bytes of text .* cut long documents"):
        strings(["x" * 5, "é" * 3])


# --- files ---------------------------------------------------------------------------------------------------


def test_a_batch_is_read_as_it_was_written_and_the_same_batch_gives_the_same_bytes(tmp_path: Path) -> None:
    batch = string_batch({"text": TEXTS, "source": list("abcde")})
    for name in ("a", "b"):
        write_batch(tmp_path / name, batch)

    assert read_batch(tmp_path / "a").equals(batch)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("left", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, left: float) -> None:
    path = tmp_path / "a.arrow"
    write_batch(path, string_batch({"text": TEXTS}))
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])

    with pytest.raises((pa.ArrowInvalid, OSError)):
        read_batch(path)


def test_batches_are_joined_in_order_and_empty_ones_add_nothing() -> None:
    batches = [string_batch({"text": texts}) for texts in (["a"], [], ["b", "c"])]

    assert one_batch(batches).column("text").to_pylist() == ["a", "b", "c"]
    assert one_batch(batches[1:2]).equals(batches[1])


@pytest.mark.parametrize(("count", "first", "last"), [(1, "00000-of-00001", "00000-of-00001"), (12, "00000", "00011")])
def test_files_sorted_by_name_are_in_order(count: int, first: str, last: str) -> None:
    names = [part_name("train", i, count) for i in range(count)]
    assert names == sorted(names) and names[0].startswith(f"train-{first}") and names[-1].startswith(f"train-{last}")


def test_more_files_than_five_digits_count_are_in_order_too() -> None:
    names = [part_name("train", i, 123_456) for i in (0, 9, 10, 99_999, 100_000)]
    assert names == sorted(names) and names[0] == "train-000000-of-123456.arrow"


def test_rows_are_written_to_files_of_about_the_size_asked_for(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, "rows", pa.schema({"n": pa.int64()}), part_bytes=100)
    for n in range(7):
        writer.add({"n": n}, size=40)

    files = writer.close()

    assert [path.name for path in files] == [f"rows-0000{i}-of-00003.arrow" for i in range(3)]
    assert [read_batch(path).column("n").to_pylist() for path in files] == [[0, 1, 2], [3, 4, 5], [6]]
    assert sorted(tmp_path.iterdir()) == files


def test_no_rows_are_no_file(tmp_path: Path) -> None:
    assert PartWriter(tmp_path, "rows", pa.schema({"n": pa.int64()}), part_bytes=100).close() == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [pa.uint16(), pa.uint32(), pa.int32(), pa.int64(), pa.float64()])
@pytest.mark.parametrize("cut", [slice(0, 5), slice(1, 4), slice(5, 5)])
def test_a_column_of_numbers_is_read_where_it_lies(kind: pa.DataType, cut: slice) -> None:
    column = pa.array([3, 1, 4, 1, 5], kind)[cut]

    values = values_of(column)

    assert (values.tolist(), str(values.dtype)) == ([3, 1, 4, 1, 5][cut], str(kind).replace("double", "float64"))
    assert len(column) == 0 or values.ctypes.data == column.buffers()[1].address + column.offset * kind.bit_width // 8
