"""Machinery: objectives, what training minimises and on which samples; their losses, and the scores that tell how well.

B batch, T time, V vocabulary, L labels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.heads import CausalLM, SequenceClassifier
from pipeline.loading.order import Indices, SampleOrder

M = TypeVar("M", bound=CausalLM | SequenceClassifier)

Batch: TypeAlias = dict[str, Tensor]
"""tensors by name, `input_ids` [B, T] and `labels` among them"""

IGNORE_INDEX = -100

CHUNK_ROWS = 256
"""positions whose log-softmax is in memory at once: the intermediate results then stay in the cache"""


@dataclass(frozen=True, kw_only=True)
class Objective(Generic[M]):
    """What differs between pretraining, classifying and instructing."""

    samples: int
    """in an epoch"""
    order: SampleOrder | None = None
    """which samples come when; None: epoch after epoch of all of them"""
    batch: Callable[[Indices], Batch]
    """samples become tensors"""
    loss: Callable[[nn.Module, Batch], Float[Tensor, ""]]
    """summed over the targets of a batch; the module is the network as it is trained, wrapped for several processes"""
    targets: Callable[[Batch], int]
    """how many targets a batch has"""
    evaluate: Callable[[M], dict[str, float]]
    """the scores on held-out data"""
    sample: Callable[[M], str | None] = lambda module: None
    """something to read"""
    unit: str = "tok"
    """what a target is, in the log"""


def logits_of(module: Callable[..., Tensor], batch: Mapping[str, Tensor]) -> Float[Tensor, "B T V"]:
    """Run a language model on a batch; where it says which document each input is of, none sees another one."""
    documents = {name: batch[name] for name in ("document_ids",) if name in batch}
    return module(batch["input_ids"], **documents)


def next_token_loss(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Return the summed cross-entropy in nats; labels are already shifted, IGNORE_INDEX has none."""
    rows, targets = logits.flatten(0, 1), labels.flatten()
    parts = zip(torch.split(rows, CHUNK_ROWS), torch.split(targets, CHUNK_ROWS), strict=True)
    losses = [F.cross_entropy(row, target, ignore_index=IGNORE_INDEX, reduction="sum") for row, target in parts]
    return sum(losses, start=rows.new_zeros(()))


def classification_loss(logits: Float[Tensor, "B L"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Return the summed cross-entropy in nats."""
    return F.cross_entropy(logits, labels, reduction="sum")


def token_losses(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return each target's cross-entropy in nats, 0 where the label is IGNORE_INDEX."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return losses.view_as(labels)


def language_scores(loss_sum: float, tokens: int, text_loss_sum: float, text_bytes: int) -> dict[str, float]:
    """Return loss and perplexity per token, and bits per byte of raw text (control tokens stand for no byte)."""
    loss = loss_sum / max(1, tokens)
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": text_loss_sum / math.log(2) / max(1, text_bytes),
    }


def classification_scores(labels: Sequence[int], predictions: Sequence[int], n_labels: int) -> dict[str, float]:
    """Return accuracy, macro-F1 (a label nobody has or is given does not count) and what the majority would get."""
    matrix = confusion_matrix(labels, predictions, n_labels)
    total = len(labels)
    majority = max(range(n_labels), key=lambda label: sum(matrix[label]))
    baseline = confusion_matrix(labels, [majority] * total, n_labels)
    return {
        "accuracy": sum(matrix[i][i] for i in range(n_labels)) / max(1, total),
        "macro_f1": _macro_f1(matrix),
        "majority_accuracy": sum(matrix[majority]) / max(1, total),
        "majority_macro_f1": _macro_f1(baseline),
    }


def confusion_matrix(labels: Sequence[int], predictions: Sequence[int], n_labels: int) -> list[list[int]]:
    """Count: row = label, column = prediction."""
    matrix = [[0] * n_labels for _ in range(n_labels)]
    for label, prediction in zip(labels, predictions, strict=True):
        matrix[label][prediction] += 1
    return matrix


def _macro_f1(matrix: list[list[int]]) -> float:
    scores = []
    for i in range(len(matrix)):
        labelled, predicted = sum(matrix[i]), sum(row[i] for row in matrix)
        if labelled + predicted:
            scores.append(2 * matrix[i][i] / (labelled + predicted))
    return sum(scores) / max(1, len(scores))
