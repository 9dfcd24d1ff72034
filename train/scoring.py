"""Machinery: score a network on a held-out split; shared by the loop and by train.evaluate."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from pipeline.loading.order import Indices, share_of
from pipeline.runtime.console import progress
from train.data import ExampleData, WindowData, micro_batches
from train.launch import Launch
from train.loop import sum_over
from train.objectives import Batch, classification_scores, language_scores, logits_of, token_losses


@dataclass(frozen=True)
class TokenBytes:
    """How many bytes of text each id stands for; none for control ids."""

    counts: Int[Tensor, " V"]

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
    mine = _share(len(data), launch, batch_size)
    batches = progress(map(data.batch, mine), total=len(mine), label="scoring", unit="batches")
    return score_language(module, batches, token_bytes, launch)


def score_conversations(
    module: nn.Module, data: ExampleData, token_bytes: TokenBytes, launch: Launch, batch_size: int
) -> dict[str, float]:
    """Score the assistant's tokens of a split."""
    mine = _share(len(data), launch, batch_size)
    batches = progress(map(data.conversations, mine), total=len(mine), label="scoring", unit="batches")
    return score_language(module, batches, token_bytes, launch)


def predict_labels(module: nn.Module, data: ExampleData, launch: Launch, batch_size: int) -> list[int]:
    """Return the likeliest label of every row of a split, on every process."""
    from accelerate.utils import gather_object

    found: list[int] = []
    for rows in _share(len(data), launch, batch_size):
        batch = {name: tensor.to(launch.accelerator.device) for name, tensor in data.labelled(rows).items()}
        found += module(batch["input_ids"], batch["lengths"]).argmax(-1).tolist()
    gathered: list[Any] = gather_object(found)
    return [int(label) for label in gathered]


def score_labels(
    module: nn.Module, data: ExampleData, n_labels: int, launch: Launch, batch_size: int
) -> dict[str, float]:
    """Return accuracy, macro-F1 and the majority baseline on a split."""
    return classification_scores(data.column("label"), predict_labels(module, data, launch, batch_size), n_labels)


def _share(samples: int, launch: Launch, batch_size: int) -> list[Indices]:
    """Return the batches of this process's share of a split's samples."""
    return micro_batches(share_of(np.arange(samples), launch.rank, launch.world_size), batch_size)


def prompt_of(data: ExampleData, row: int) -> tuple[list[int], list[int]]:
    """Split a conversation into what comes before the assistant's first word, and what the assistant says."""
    ids, mask = data.row(row, "input_ids"), data.row(row, "loss_mask")
    first = mask.index(1)
    return ids[:first], [i for i, m in zip(ids[first:], mask[first:], strict=True) if m]
