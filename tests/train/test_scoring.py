"""Scoring in batches finds what scoring one by one finds, and covers every row once."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.open import open_model
from train.data import ExampleData
from train.launch import Launch
from train.scoring import TokenBytes, predict_labels, prompt_of, score_conversations, score_language


class Even(nn.Module):
    """Find every token equally likely."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return torch.zeros(*input_ids.shape, 8)


class Longest(nn.Module):
    """Label a text by its length."""

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        return nn.functional.one_hot(lengths, 6).float()


class Rows:
    """Conversations, or labelled texts, in memory."""

    def __init__(self, ids: list[list[int]], masks: list[list[int]] | None = None) -> None:
        self.ids, self.masks = ids, masks

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> Any:
        return self.ids if name == "input_ids" else self.masks

    def row(self, index: int, name: str) -> Any:
        return self.column(name)[index]

    def labelled(self, samples: Any) -> dict[str, Tensor]:
        chosen = [self.ids[int(i)] for i in samples]
        width = max(map(len, chosen))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in chosen])
        return {"input_ids": padded, "lengths": torch.tensor([len(row) for row in chosen])}


def test_an_even_guess_over_eight_tokens_costs_three_bits(started: Launch) -> None:
    """Tokens 1 and 2 stand for 1 and 2 bytes, token 7 is a control token and stands for none."""
    sizes = TokenBytes.of([b"", b"a", b"bc", b"", b"", b"", b"", b""])
    labels = torch.tensor([[1, 2, 7], [2, -100, -100]])
    batch = {"input_ids": torch.zeros_like(labels), "labels": labels}
    scores = score_language(Even(), [batch], sizes, started)
    assert scores["loss"] == pytest.approx(math.log(8)) and scores["perplexity"] == pytest.approx(8)
    assert scores["bits_per_byte"] == pytest.approx(3 * 3 / 5), "three text tokens, five bytes"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_labels_come_back_in_order_whatever_the_batch(started: Launch, batch_size: int) -> None:
    rows: Any = Rows([[9] * n for n in (3, 1, 5, 2, 4, 1)])
    assert predict_labels(Longest(), rows, started, batch_size) == [3, 1, 5, 2, 4, 1]


def test_a_prompt_ends_where_the_assistant_begins() -> None:
    rows: Any = Rows([[1, 2, 3, 4, 5, 6]], [[0, 0, 0, 1, 1, 0]])
    assert prompt_of(rows, 0) == ([1, 2, 3], [4, 5])


@torch.inference_mode()
def test_the_score_of_an_assistant_does_not_depend_on_the_batch(tiny: Any, started: Launch) -> None:
    module, encoder = open_model(tiny["assistant"])
    data = ExampleData(tiny["dialogues"], "validation", module.config.context_length)
    sizes = TokenBytes.of(encoder.token_bytes)
    one, many = (score_conversations(module, data, sizes, started, size) for size in (1, 16))
    assert one == pytest.approx(many, rel=1e-4)
