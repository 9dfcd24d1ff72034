"""Machinery: a small network, a small objective of unequal samples, and the loop over them in this process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.config import GPTConfig
from model.gpt import init_weights
from model.heads import CausalLM
from pipeline.loading.order import Indices
from train.checkpoint import Checkpoints
from train.config import TrainingExecution
from train.data import count_targets
from train.finetune import FinetuneConfig
from train.launch import Launch, launch
from train.loop import Loop
from train.objectives import IGNORE_INDEX, Batch, Objective, next_token_loss
from train.optim import OptimizerConfig
from train.record import Record

SAMPLES, LENGTH, VOCABULARY = 40, 12, 31


@pytest.fixture
def started() -> Iterator[Launch]:
    """One process in fp32 on one thread."""
    threads = torch.get_num_threads()
    yield launch(precision="fp32", threads=1, micro_batch_size=4, program="train.pretrain")
    torch.set_num_threads(threads)


def rows() -> tuple[Tensor, Tensor]:
    """Return inputs and labels [SAMPLES, LENGTH]; sample i has between one and all of its labels."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(VOCABULARY, (SAMPLES, LENGTH + 1), generator=generator)
    counts = torch.randint(1, LENGTH + 1, (SAMPLES, 1), generator=generator)
    labels = tokens[:, 1:].masked_fill(torch.arange(LENGTH) >= counts, IGNORE_INDEX)
    return tokens[:, :-1], labels


def batch_of(samples: Indices) -> Batch:
    inputs, labels = rows()
    chosen = torch.from_numpy(samples)
    return {"input_ids": inputs[chosen], "labels": labels[chosen]}


def small_network(dropout: float = 0.0) -> CausalLM:
    config = GPTConfig(
        vocab_size=VOCABULARY,
        context_length=LENGTH,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=dropout,
        intermediate_size=32,
    )
    module = CausalLM(config)
    init_weights(module, 5)
    return module


def small_objective(**changes: Any) -> Objective[CausalLM]:
    objective = Objective(
        samples=SAMPLES,
        batch=batch_of,
        targets=count_targets,
        loss=lambda module, batch: next_token_loss(module(batch["input_ids"]), batch["labels"]),
        evaluate=lambda module: {"loss": 0.0},
    )
    return replace(objective, **changes)


@pytest.fixture
def loop(started: Launch, tmp_path: Path) -> Callable[..., Loop[CausalLM]]:
    """Build a loop of eight steps over eight samples each in the folder `name` of this test."""

    def build(
        name: str = "run",
        *,
        dropout: float = 0.2,
        max_steps: int = 8,
        optimizer: OptimizerConfig | None = None,
        objective: Objective[CausalLM] | None = None,
        lease: Any = None,
        **execution: Any,
    ) -> Loop[CausalLM]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        how = TrainingExecution(**{"micro_batch_size": 4, "logging_steps": 1, "threads": 1, **execution})
        return Loop(
            launch=started,
            objective=objective or small_objective(),
            config=FinetuneConfig(
                global_batch_examples=8,
                seed=11,
                optimizer=optimizer or OptimizerConfig(warmup_steps=2, learning_rate=1e-2),
            ),
            max_steps=max_steps,
            execution=how,
            module=small_network(dropout),
            record=Record(folder, max_steps, active=True),
            checkpoints=Checkpoints(folder, keep=how.save_total_limit),
            lease=lease,
        )

    return build
