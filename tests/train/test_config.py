"""How long a run is."""

from typing import Any

import pytest

from pipeline.errors import ConfigError
from train.config import TrainingExecution
from train.finetune import FinetuneConfig


@pytest.mark.parametrize(
    "max_steps, epochs, samples, batch, steps",
    [(7, 1.0, 100, 10, 7), (None, 1.0, 100, 10, 10), (None, 1.0, 101, 10, 11), (None, 2.5, 10, 4, 7)],
)
def test_a_run_is_as_long_as_is_asked_or_as_its_epochs_take(
    max_steps: int | None, epochs: float, samples: int, batch: int, steps: int
) -> None:
    assert FinetuneConfig(max_steps=max_steps, epochs=epochs, global_batch_examples=batch).steps(samples) == steps


@pytest.mark.parametrize("options", [{"max_steps": 0}, {"epochs": 0.0}, {"epochs": -1.0}, {"eval_steps": -1}])
def test_a_run_without_steps_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        FinetuneConfig(**options)


@pytest.mark.parametrize("name", ["micro_batch_size", "logging_steps", "save_total_limit", "threads"])
def test_what_must_be_there_at_least_once_is_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        TrainingExecution(**{name: 0})
