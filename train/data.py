"""Machinery: samples become tensors: windows of the token stream, labelled examples, conversations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.loading.order import Indices
from pipeline.loading.packed_windows import PackedWindows
from pipeline.loading.windows import NO_TOKEN, CoveringWindows, TokenStream, Windows, WindowSource
from train.objectives import IGNORE_INDEX, Batch


class WindowData:
    """Next-token batches from the windows of one shard set, or of several numbered one after the other."""

    def __init__(self, sources: Sequence[WindowSource], *, document_mask: bool = False) -> None:
        self.sizes = tuple(len(source) for source in sources)
        self._sources, self._document_mask = sources, document_mask
        self._firsts = np.cumsum([0, *self.sizes])
        self._padded = any(source.padded for source in sources)

    @classmethod
    def training(
        cls, shards: Sequence[Artifact], context_length: int, stride: int | None = None, *, document_mask: bool = False
    ) -> "WindowData":
        """Return the train splits: a stream's windows begin `stride` tokens apart, or context_length."""
        return cls([_training(one, context_length, stride) for one in shards], document_mask=document_mask)

    @classmethod
    def held_out(
        cls, shards: Sequence[Artifact], split: str, context_length: int, *, document_mask: bool = False
    ) -> "WindowData":
        """Return a split of all shard sets as windows that predict each token once; a stream's first one never.

        Raises DataError for a shard set without the split.
        """
        return cls([_held_out(one, split, context_length) for one in shards], document_mask=document_mask)

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def batch(self, samples: Indices) -> Batch:
        """Return input_ids and labels, both [B, context_length]; labels are the tokens that come next.

        With a document mask also document_ids [B, context_length]: which document each input is read with.
        """
        rows, documents = self._gather(samples)
        tokens = torch.from_numpy(rows)
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
        if self._padded:
            inputs, labels = inputs.clamp(min=0), labels.masked_fill(labels == NO_TOKEN, IGNORE_INDEX)
        batch = {"input_ids": inputs, "labels": labels}
        return batch if documents is None else {**batch, "document_ids": torch.from_numpy(documents)}

    def _gather(self, samples: Indices) -> tuple[Indices, Indices | None]:
        if len(self._sources) == 1:
            return self._gather_from(0, samples)
        length = self._sources[0].context_length
        rows = np.empty((len(samples), length + 1), dtype=np.int64)
        documents = np.empty((len(samples), length), dtype=np.int64)
        numbers = np.searchsorted(self._firsts, samples, side="right") - 1
        for number in np.unique(numbers).tolist():
            here = numbers == number
            rows[here], own = self._gather_from(number, samples[here] - self._firsts[number])
            documents[here] = 0 if own is None else own
        return rows, documents if self._document_mask else None

    def _gather_from(self, number: int, samples: Indices) -> tuple[Indices, Indices | None]:
        source = self._sources[number]
        rows = source.gather(samples)
        return rows, source.document_ids(samples, rows) if self._document_mask else None


def _is_packed(shards: Artifact, context_length: int) -> bool:
    """Tell which layout shards have; raise ConfigError for windows packed for another context length."""
    packed = shards.facts.get("layout") == "packed"
    if packed and shards.facts["context_length"] != context_length:
        raise ConfigError(
            f"{shards.short} is packed for a context_length of {shards.facts['context_length']}, and the model's is "
            f"{context_length}. Make them equal, or make shards with layout stream, which serves every length."
        )
    return packed


def _training(shards: Artifact, context_length: int, stride: int | None) -> WindowSource:
    if not _is_packed(shards, context_length):
        return Windows(TokenStream.of(shards, "train"), context_length, stride or context_length)
    if stride is not None:
        raise ConfigError(f"{shards.short} is packed: its windows are what they are and have no stride.")
    if not len(source := PackedWindows(shards, "train")):
        raise DataError(f"{shards.short} has no train split to learn from.")
    return source


def _held_out(shards: Artifact, split: str, context_length: int) -> WindowSource:
    packed = _is_packed(shards, context_length)
    source: WindowSource = (
        PackedWindows(shards, split) if packed else CoveringWindows(TokenStream.of(shards, split), context_length)
    )
    if not len(source):
        raise DataError(f"{shards.short} has no {split} split to evaluate on.")
    return source


class ExampleData:
    """The rows of a split of an examples artifact, in memory map: {input_ids, label} or {input_ids, loss_mask}."""

    def __init__(self, examples: Artifact, split: str, context_length: int) -> None:
        import pyarrow as pa

        from pipeline.tables.arrow import read_batch

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


def pad(rows: Sequence[Sequence[int]], value: int) -> Int[Tensor, "B T"]:
    """Stack rows of different lengths, filled on the right with `value`."""
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)


def micro_batches(samples: Indices, size: int) -> list[Indices]:
    """Cut samples into consecutive groups of `size`, the last one what is left."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def count_targets(batch: Batch) -> int:
    """Count the labels that are not IGNORE_INDEX."""
    return int((batch["labels"] != IGNORE_INDEX).sum())
