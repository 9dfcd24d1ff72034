"""Samples become tensors: labels are what comes next, padding is never a target, the mask decides what is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.arrow import write_batch
from pipeline.errors import ConfigError, DataError
from train.data import ExampleData, HeldOutStream, StreamData, count_targets, pad
from train.objectives import IGNORE_INDEX


class Published:
    """As much of an artifact as the readers look at."""

    short = "shards:0123"

    def __init__(self, folder: Path, **facts: Any) -> None:
        self.folder, self.facts = folder, facts

    def files(self, prefix: str) -> list[Path]:
        return sorted(self.folder.glob(f"{prefix}*"))


@pytest.fixture
def shards(tmp_path: Path) -> Any:
    """The stream 0..22 in two train shards, and 100..109 to validate on."""
    for name, rows in {
        "train-00000-of-00002.arrow": [list(range(5)), list(range(5, 13))],
        "train-00001-of-00002.arrow": [list(range(13, 23))],
        "validation-00000-of-00001.arrow": [list(range(100, 110))],
    }.items():
        column = pa.array(rows, type=pa.list_(pa.uint16()))
        write_batch(tmp_path / name, pa.record_batch({"input_ids": column}))
    return Published(tmp_path)


def test_labels_are_the_tokens_that_come_next(shards: Any) -> None:
    data = StreamData(shards, "train", 4, 4)
    batch = data.batch(np.array([0, 2, 3]))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4], [9, 10, 11, 12], [13, 14, 15, 16]]


@pytest.mark.parametrize("stride, samples", [(4, 5), (2, 10), (1, 19)])
def test_windows_slide_by_the_stride_to_the_end_of_the_stream(shards: Any, stride: int, samples: int) -> None:
    data = StreamData(shards, "train", 4, stride)
    assert len(data) == samples
    last = data.batch(np.array([samples - 1]))
    assert last["input_ids"][0, 0] == (samples - 1) * stride and last["labels"][0, -1] + stride > 22


def test_held_out_windows_predict_every_token_but_the_first_once(shards: Any) -> None:
    stream = HeldOutStream(shards, "validation", 4)
    batch = stream.batch(stream.windows)
    targets = batch["labels"][batch["labels"] != IGNORE_INDEX]
    assert targets.tolist() == list(range(101, 110))
    assert batch["input_ids"].shape == (3, 4)
    assert batch["labels"][2].tolist() == [109, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]


def test_a_split_that_is_not_there_is_named(shards: Any) -> None:
    with pytest.raises(DataError, match="has no test split"):
        HeldOutStream(shards, "test", 4)


def examples(folder: Path, columns: dict[str, Sequence[Any]], **facts: Any) -> Any:
    write_batch(folder / "train-00000-of-00001.arrow", pa.RecordBatch.from_pydict(columns))
    return Published(folder, **{"longest": max(map(len, columns["input_ids"])), **facts})


def test_labelled_rows_are_padded_on_the_right_and_know_their_length(tmp_path: Path) -> None:
    data = ExampleData(examples(tmp_path, {"input_ids": [[5], [6, 7, 8], [9, 1]], "label": [2, 0, 1]}), "train", 3)
    batch = data.labelled(np.array([1, 0, 2]))
    assert batch["input_ids"].tolist() == [[6, 7, 8], [5, 0, 0], [9, 1, 0]]
    assert batch["lengths"].tolist() == [3, 1, 2] and batch["labels"].tolist() == [0, 2, 1]
    assert len(data) == 3 and data.column("label") == [2, 0, 1]


def test_only_what_the_assistant_says_is_a_target(tmp_path: Path) -> None:
    rows = {"input_ids": [[1, 2, 3, 4, 5], [6, 7, 8]], "loss_mask": [[0, 0, 0, 1, 1], [0, 0, 1]]}
    batch = ExampleData(examples(tmp_path, rows), "train", 8).conversations(np.array([0, 1]))
    ignored = IGNORE_INDEX
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [6, 7, 0, 0]]
    assert batch["labels"].tolist() == [[ignored, ignored, 4, 5], [ignored, 8, ignored, ignored]]
    assert count_targets(batch) == 3


def test_an_example_longer_than_the_context_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the longest example has 4 tokens .* --max-tokens 3"):
        ExampleData(examples(tmp_path, {"input_ids": [[1, 2, 3, 4]], "label": [0]}), "train", 3)


def test_examples_without_the_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no test split"):
        ExampleData(examples(tmp_path, {"input_ids": [[1]], "label": [0]}), "test", 3)


def test_rows_are_padded_with_the_value_asked_for() -> None:
    assert pad([[1, 2], [3]], -100).tolist() == [[1, 2], [3, -100]]
    assert pad([[1]], 0).dtype == torch.int64


def test_what_is_not_ignored_is_counted() -> None:
    assert count_targets({"labels": torch.tensor([[1, IGNORE_INDEX], [0, 2]])}) == 3


def test_changing_a_batch_does_not_reach_the_shard(shards: Any) -> None:
    data = StreamData(shards, "train", 4, 4)
    data.batch(np.array([0]))["input_ids"].fill_(99)
    assert data.batch(np.array([0]))["input_ids"].tolist() == [[0, 1, 2, 3]]
