"""Samples become tensors: labels are what comes next, padding is never a target, the mask decides what is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.tables.arrow import write_batch
from train.data import ExampleData, WindowData, count_targets, micro_batches, pad
from train.objectives import IGNORE_INDEX


class Published(Artifact):
    """As much of an artifact as the readers look at: there is no manifest."""

    def __init__(self, folder: Path, name: str = "0123", **facts: Any) -> None:
        self.folder, self.name_, self.facts_ = folder, name, facts

    @property
    def facts(self) -> dict[str, Any]:
        return self.facts_

    @property
    def short(self) -> str:
        return f"shards:{self.name_}"

    def has(self, path: str) -> bool:
        return (self.folder / path).exists()

    def file(self, path: str) -> Path:
        return self.folder / path

    def files(self, prefix: str) -> list[Path]:
        return sorted(self.folder.glob(f"{prefix}*"))

    def read_json(self, path: str) -> Any:
        return json.loads(self.file(path).read_text())


Rows = list[list[int]]


def publish(folder: Path, files: dict[str, dict[str, Rows]], **facts: Any) -> Any:
    """Write files of list columns, and their index."""
    folder.mkdir(exist_ok=True)
    index: dict[str, list[list[Any]]] = {}
    for name, columns in files.items():
        arrays = {key: pa.array(rows, type=pa.list_(pa.uint16())) for key, rows in columns.items()}
        write_batch(folder / name, pa.record_batch(arrays))
        ids = columns["input_ids"]
        index.setdefault(name.split("-")[0], []).append([name, sum(map(len, ids)), len(ids)])
    (folder / "index.json").write_text(json.dumps(index))
    return Published(folder, folder.name, **facts)


@pytest.fixture
def shards(tmp_path: Path) -> Any:
    """The stream 0..22 in two train shards, and 100..109 to validate on; 7 ends a document."""
    return publish(
        tmp_path / "stream",
        {
            "train-00000-of-00002.arrow": {"input_ids": [list(range(5)), list(range(5, 13))]},
            "train-00001-of-00002.arrow": {"input_ids": [list(range(13, 23))]},
            "validation-00000-of-00001.arrow": {"input_ids": [list(range(100, 110))]},
        },
        end_of_text=7,
    )


@pytest.fixture
def packed(tmp_path: Path) -> Any:
    """Three rows of five ids, of documents that end with 7, padded with 8."""
    ids = [[1, 7, 2, 3, 7], [4, 5, 7, 8, 8], [6, 1, 1, 1, 1]]
    columns = {"input_ids": ids, "document_starts": [[0, 2], [0, 3], [0]]}
    files = {f"{split}-00000-of-00001.arrow": columns for split in ("train", "validation")}
    return publish(tmp_path / "packed", files, layout="packed", context_length=4, end_of_text=7, pad=8)


def test_labels_are_the_tokens_that_come_next(shards: Any) -> None:
    data = WindowData.training([shards], 4)
    batch = data.batch(np.array([0, 2, 3]))
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4], [9, 10, 11, 12], [13, 14, 15, 16]]
    assert batch.keys() == {"input_ids", "labels"}


@pytest.mark.parametrize("stride, samples", [(4, 5), (2, 10), (1, 19)])
def test_windows_slide_by_the_stride_to_the_end_of_the_stream(shards: Any, stride: int, samples: int) -> None:
    data = WindowData.training([shards], 4, stride)
    assert len(data) == samples
    last = data.batch(np.array([samples - 1]))
    assert last["input_ids"][0, 0] == (samples - 1) * stride and last["labels"][0, -1] + stride > 22


def test_held_out_windows_predict_every_token_but_the_first_once(shards: Any) -> None:
    data = WindowData.held_out([shards], "validation", 4)
    batch = data.batch(np.arange(len(data)))
    targets = batch["labels"][batch["labels"] != IGNORE_INDEX]
    assert targets.tolist() == list(range(101, 110))
    assert batch["input_ids"].shape == (3, 4) and batch["input_ids"].min() >= 0
    assert batch["labels"][2].tolist() == [109, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]


def test_a_split_that_is_not_there_is_named(shards: Any, packed: Any) -> None:
    for artifact in (shards, packed):
        with pytest.raises(DataError, match=f"{artifact.short} has no test split"):
            WindowData.held_out([artifact], "test", 4)
    (packed.folder / "index.json").write_text("{}")
    with pytest.raises(DataError, match="shards:packed has no train split to learn from"):
        WindowData.training([packed], 4)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_in_packed_windows_every_token_but_padding_is_a_target(packed: Any, split: str) -> None:
    both = {"train": WindowData.training([packed], 4), "validation": WindowData.held_out([packed], "validation", 4)}
    batch = both[split].batch(np.array([1, 0]))
    assert batch["labels"].tolist() == [[5, 7, IGNORE_INDEX, IGNORE_INDEX], [7, 2, 3, 7]]
    assert batch["input_ids"][1].tolist() == [1, 7, 2, 3] and batch["input_ids"][0, :3].tolist() == [4, 5, 7]
    assert count_targets(batch) == 6


def test_with_a_document_mask_an_end_of_text_is_read_with_what_follows_it(shards: Any, packed: Any) -> None:
    stream = WindowData.training([shards], 4, document_mask=True).batch(np.array([1, 0]))
    assert stream["input_ids"][0].tolist() == [4, 5, 6, 7]
    assert stream["document_ids"].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]
    windows = WindowData.training([packed], 4, document_mask=True).batch(np.array([0, 1, 2]))
    assert windows["document_ids"].tolist() == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert count_targets(stream) == 8, "no target is lost to the mask"


def test_packed_windows_serve_one_context_length_and_have_no_stride(packed: Any) -> None:
    with pytest.raises(ConfigError, match=r"packed for a context_length of 4, and the model's is 8"):
        WindowData.training([packed], 8)
    with pytest.raises(ConfigError, match="no stride"):
        WindowData.training([packed], 4, stride=2)


@pytest.mark.parametrize("masked", [False, True])
def test_several_shard_sets_are_numbered_one_after_the_other(shards: Any, packed: Any, masked: bool) -> None:
    both = WindowData.training([shards, packed], 4, document_mask=masked)
    assert (len(both), both.sizes) == (8, (5, 3))
    batch = both.batch(np.array([6, 0, 5, 4]))
    ignored = IGNORE_INDEX
    assert batch["input_ids"].tolist()[1:] == [[0, 1, 2, 3], [1, 7, 2, 3], [16, 17, 18, 19]]
    assert batch["labels"].tolist() == [[5, 7, ignored, ignored], [1, 2, 3, 4], [7, 2, 3, 7], [17, 18, 19, 20]]
    if masked:
        assert batch["document_ids"].tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    else:
        assert "document_ids" not in batch


def test_the_held_out_parts_of_several_shard_sets_are_scored_together(shards: Any, packed: Any) -> None:
    data = WindowData.held_out([packed, shards], "validation", 4)
    batch = data.batch(np.arange(len(data)))
    assert data.sizes == (3, 3) and count_targets(batch) == (4 + 2 + 4) + 9


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


def test_micro_batches_cover_every_sample_once() -> None:
    assert [batch.tolist() for batch in micro_batches(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert micro_batches(np.arange(0), 3) == []


def test_what_is_not_ignored_is_counted() -> None:
    assert count_targets({"labels": torch.tensor([[1, IGNORE_INDEX], [0, 2]])}) == 3


def test_changing_a_batch_does_not_reach_the_shard(shards: Any) -> None:
    data = WindowData.training([shards], 4)
    data.batch(np.array([0]))["input_ids"].fill_(99)
    assert data.batch(np.array([0]))["input_ids"].tolist() == [[0, 1, 2, 3]]
