"""Machinery: score a network on a held-out split; shared by the loop and by train.evaluate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.loading.order import Indices, share_of
from pipeline.runtime.console import progress
from train.data import Batch, ExampleData, WindowData
from train.launch import Launch
from train.loop import sum_over
from train.objectives import classification_scores, language_scores, logits_of, token_losses


@dataclass(frozen=True)
class TokenBytes:
    """How many bytes of text each id stands for; none for control ids."""

    counts: Tensor

    @classmethod
    def of(cls, token_bytes: Sequence[bytes]) -> "TokenBytes":
        return cls(torch.tensor([len(token) for token in token_bytes]))


def score_language(
    module: nn.Module, batches: Iterable[Batch], token_bytes: TokenBytes, launch: Launch
) -> dict[str, float]:
    """Return loss, perplexity and bits per byte over the labels of this process's batches and all the others'."""
    sums = np.zeros(4)
    for batch in batches:
        here = {name: tensor.to(launch.accelerator.device) for name, tensor in batch.items()}
        losses = token_losses(logits_of(module, here), here["labels"]).double().cpu()
        has_label = batch["labels"] >= 0
        sizes = token_bytes.counts[batch["labels"].clamp(min=0)] * has_label
        sums += [float(losses.sum()), int(has_label.sum()), float(losses[sizes > 0].sum()), int(sizes.sum())]
    loss, tokens, text_loss, text_bytes = (sum_over(launch, float(value)) for value in sums)
    return language_scores(loss, int(tokens), text_loss, int(text_bytes))


def score_windows(
    module: nn.Module, data: WindowData, token_bytes: TokenBytes, launch: Launch, batch_size: int
) -> dict[str, float]:
    """Score all held-out windows, of however many shard sets; each process takes a part of them."""
    parts = parts_of(share_of(np.arange(len(data)), launch.rank, launch.world_size), batch_size)
    batches = progress(map(data.batch, parts), total=len(parts), label="scoring", unit="batches")
    return score_language(module, batches, token_bytes, launch)


def score_conversations(
    module: nn.Module, data: ExampleData, token_bytes: TokenBytes, launch: Launch, batch_size: int
) -> dict[str, float]:
    """Score the assistant's tokens of a split."""
    mine = share_of(np.arange(len(data)), launch.rank, launch.world_size)
    parts = parts_of(mine, batch_size)
    batches = progress(map(data.conversations, parts), total=len(parts), label="scoring", unit="batches")
    return score_language(module, batches, token_bytes, launch)


def predict_labels(module: nn.Module, data: ExampleData, launch: Launch, batch_size: int) -> list[int]:
    """Return the likeliest label of every row of a split, on every process."""
    from accelerate.utils import gather_object

    mine = share_of(np.arange(len(data)), launch.rank, launch.world_size)
    found: list[int] = []
    for part in parts_of(mine, batch_size):
        batch = {name: tensor.to(launch.accelerator.device) for name, tensor in data.labelled(part).items()}
        found += module(batch["input_ids"], batch["lengths"]).argmax(-1).tolist()
    gathered: list[Any] = gather_object(found)
    return [int(label) for label in gathered]


def score_labels(
    module: nn.Module, data: ExampleData, n_labels: int, launch: Launch, batch_size: int
) -> dict[str, float]:
    """Return accuracy, macro-F1 and the majority baseline on a split."""
    return classification_scores(data.column("label"), predict_labels(module, data, launch, batch_size), n_labels)


def parts_of(samples: Indices, size: int) -> list[Indices]:
    """Cut samples into batches."""
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def prompt_of(data: ExampleData, row: int) -> tuple[list[int], list[int]]:
    """Split a conversation into what comes before the assistant's first word, and what the assistant says."""
    ids, mask = data.row(row, "input_ids"), data.row(row, "loss_mask")
    first = mask.index(1)
    return ids[:first], [i for i, m in zip(ids[first:], mask[first:], strict=True) if m]
