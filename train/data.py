"""Machinery: samples become tensors: windows of the token stream, labelled examples, conversations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.sampling import Indices, TokenStream, Windows, covering_windows
from train.objectives import IGNORE_INDEX

Batch = dict[str, Tensor]


class StreamData:
    """Next-token batches from the windows of a shard set's split."""

    def __init__(self, shards: Artifact, split: str, context_length: int, stride: int) -> None:
        self._windows = Windows(TokenStream(shards.files(f"{split}-")), context_length, stride)

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, samples: Indices) -> Batch:
        """Return input_ids and labels, both [B, context_length]; labels are the tokens that come next."""
        rows = torch.from_numpy(self._windows.gather(samples))
        return {"input_ids": rows[:, :-1], "labels": rows[:, 1:]}


class HeldOutStream:
    """A split as windows that predict each of its tokens but the first once; the last one is padded."""

    def __init__(self, shards: Artifact, split: str, context_length: int) -> None:
        self._stream = TokenStream(shards.files(f"{split}-"))
        self._context_length = context_length
        self.windows = covering_windows(len(self._stream), context_length)
        if not self.windows:
            raise DataError(f"{shards.short} has no {split} split to evaluate on.")

    def batch(self, windows: Sequence[tuple[int, int]]) -> Batch:
        """Return input_ids and labels [B, context_length] of some windows."""
        inputs = np.zeros((len(windows), self._context_length), dtype=np.int64)
        labels = np.full_like(inputs, IGNORE_INDEX)
        for row, (start, stop) in enumerate(windows):
            tokens = self._stream.read(start, stop)
            inputs[row, : len(tokens) - 1] = tokens[:-1]
            labels[row, : len(tokens) - 1] = tokens[1:]
        return {"input_ids": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}


class ExampleData:
    """The rows of a split of an examples artifact, in memory map: {input_ids, label} or {input_ids, loss_mask}."""

    def __init__(self, examples: Artifact, split: str, context_length: int) -> None:
        import pyarrow as pa

        from pipeline.arrow import read_batch

        paths = examples.files(f"{split}-")
        if not paths:
            raise DataError(f"{examples.short} has no {split} split.")
        self._table = pa.Table.from_batches([read_batch(path) for path in paths]).combine_chunks()
        self._ids = self._table.column("input_ids")
        longest = int(examples.facts["longest"])
        if longest > context_length:
            raise ConfigError(
                f"the longest example has {longest} tokens and the model's context_length is {context_length}. "
                f"Make the examples with --max-tokens {context_length}."
            )

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def column(self, name: str) -> list[Any]:
        """Return a whole column as Python values."""
        values: list[Any] = self._table.column(name).to_pylist()
        return values

    def row(self, index: int, name: str) -> list[int]:
        """Return one value of a list column."""
        values: list[int] = self._table.column(name)[index].as_py()
        return values

    def labelled(self, samples: Indices) -> Batch:
        """Return input_ids [B, T] padded on the right, lengths [B] and labels [B]."""
        ids = [self._ids[int(i)].as_py() for i in samples]
        labels = [self._table.column("label")[int(i)].as_py() for i in samples]
        return {
            "input_ids": pad(ids, 0),
            "lengths": torch.tensor([len(row) for row in ids]),
            "labels": torch.tensor(labels),
        }

    def conversations(self, samples: Indices) -> Batch:
        """Return input_ids and labels [B, T]: the next token where the mask asks for it, else IGNORE_INDEX."""
        inputs, labels = [], []
        for i in samples:
            ids = self._ids[int(i)].as_py()
            mask = self._table.column("loss_mask")[int(i)].as_py()
            inputs.append(ids[:-1])
            labels.append([t if m else IGNORE_INDEX for t, m in zip(ids[1:], mask[1:], strict=True)])
        return {"input_ids": pad(inputs, 0), "labels": pad(labels, IGNORE_INDEX)}


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Stack rows of different lengths, filled on the right with `value`."""
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)


def count_targets(batch: Batch) -> int:
    """Count the labels that are not IGNORE_INDEX."""
    return int((batch["labels"] != IGNORE_INDEX).sum())
