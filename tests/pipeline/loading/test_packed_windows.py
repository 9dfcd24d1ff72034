"""Packed shards are read row by row: padding is no token, and each document is a document of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import IntegrityError
from pipeline.loading.packed_windows import PackedWindows
from pipeline.tables.arrow import write_batch

END, PAD = 90, 91
ROWS = [
    ([1, 2, 3, END, 4, END, 5, END], [0, 4, 6]),
    ([6, 7, 8, 9, END, PAD, PAD, PAD], [0, 5]),
    ([10, 11, 12, 13, 14, 15, 16, 17], [0]),  # a part of a document that is longer than a window
    ([18, END, 19, 20, END, 21, END, PAD], [0, 2, 5, 7]),
    ([22, 23, 24, 25, 26, 27, 28, END], [0]),
]


@pytest.fixture
def pack(tmp_path: Path, request_of: Callable[..., Any]) -> Callable[..., Artifact]:
    """Publish rows of ids and document starts as packed shards, two rows to a file."""

    def pack(rows: list[tuple[list[int], list[int]]], *, declared: int = 16, **facts: Any) -> Artifact:
        with Store(tmp_path / "store").draft(request_of({"n": declared}, kind="shards")) as draft:
            index = []
            for i in range(0, len(rows), 2):
                ids, starts = (
                    pa.array(column, type=pa.list_(pa.uint16())) for column in zip(*rows[i : i + 2], strict=True)
                )
                write_batch(
                    draft.path / f"train-{i}.arrow", pa.record_batch({"input_ids": ids, "document_starts": starts})
                )
                index.append([f"train-{i}.arrow", declared if i + 2 <= len(rows) else 8, 1])
            (draft.path / "index.json").write_text(json.dumps({"train": index}))
            draft.fact(layout="packed", context_length=7, end_of_text=END, pad=PAD, **facts)
        return draft.artifact

    return pack


def test_a_sample_is_a_row_and_padding_is_no_token(pack: Callable[..., Artifact]) -> None:
    windows = PackedWindows(pack(ROWS), "train")

    rows = windows.gather(np.array([4, 0, 1, 1, 3, 2]))

    expected = [[-1 if i == PAD else i for i in ROWS[number][0]] for number in (4, 0, 1, 1, 3, 2)]
    assert (len(windows), windows.context_length, rows.tolist()) == (5, 7, expected)


def test_an_input_is_read_with_its_document_and_an_end_with_what_follows(pack: Callable[..., Artifact]) -> None:
    windows = PackedWindows(pack(ROWS), "train")
    samples = np.arange(5)

    documents = windows.document_ids(samples, windows.gather(samples))

    assert documents.tolist() == [
        [0, 0, 0, 1, 1, 2, 2],
        [0, 0, 0, 0, 1, 1, 1],
        [0] * 7,
        [0, 1, 1, 1, 2, 2, 3],
        [0] * 7,
    ]


def test_a_start_after_no_end_of_text_is_a_border_all_the_same(pack: Callable[..., Artifact]) -> None:
    windows = PackedWindows(pack([([1, 2, 3, 4, 5, 6, 7, 8], [0, 3])]), "train")

    assert windows.document_ids(np.array([0]), windows.gather(np.array([0]))).tolist() == [[0, 0, 0, 1, 1, 1, 1]]


def test_a_split_that_is_not_there_has_no_windows(pack: Callable[..., Artifact]) -> None:
    assert len(PackedWindows(pack(ROWS), "validation")) == 0


def test_a_gathered_batch_may_be_written_to_without_touching_the_shards(pack: Callable[..., Artifact]) -> None:
    windows = PackedWindows(pack(ROWS), "train")

    windows.gather(np.array([0]))[:] = 7

    assert windows.gather(np.array([0])).tolist() == [ROWS[0][0]]


def test_a_file_with_other_rows_than_its_index_says_is_refused(pack: Callable[..., Artifact]) -> None:
    windows = PackedWindows(pack(ROWS, declared=24), "train")

    with pytest.raises(IntegrityError, match=r"train-0\.arrow has 2 rows of 16 ids together, .* says 3 of 8 each"):
        windows.gather(np.array([0]))
