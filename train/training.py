"""Machinery: what the training stages share: build the loop, run it, publish the model."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import JSON
from pipeline.encoding import TOKENIZER_FILES, TextEncoder
from pipeline.errors import ConfigError
from pipeline.stage import Job
from train.launch import Launch

if TYPE_CHECKING:
    from model.storage import Model
    from train.loop import Loop, Schedule, Task
    from train.optim import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a stage says of the model it publishes."""

    task: str
    """pretrained | classifier | assistant"""
    tokenizer: Artifact


def check_tokenizer(tokenizer: Artifact, *made_with: Artifact) -> Artifact:
    """Return `tokenizer`, if it is the one whose ids the others hold; ids of two tokenizers never mix.

    Raises ConfigError naming both.
    """
    for artifact in made_with:
        if artifact.facts["tokenizer_digest"] != tokenizer.digest:
            raise ConfigError(f"{artifact.short} was made with another tokenizer than {tokenizer.short}.")
    return tokenizer


def steps_of(max_steps: int | None, epochs: float, samples: int, global_batch_size: int) -> int:
    """Return how many steps to do: as many as are asked for, else as the epochs take."""
    steps = max_steps if max_steps is not None else math.ceil(epochs * samples / global_batch_size)
    if steps < 1:
        raise ConfigError(f"there is nothing to do: {steps} steps ({samples} samples, {epochs} epochs).")
    return steps


def train_and_publish(
    job: Job[Any, Any],
    launch: Launch,
    module: "Model",
    task: "Task",
    schedule: "Schedule",
    optimizer: "OptimizerConfig",
    trained: Trained,
) -> Artifact | None:
    """Run the loop and publish what came out; only the main process has an artifact to return."""
    from train.checkpoint import Checkpoints
    from train.loop import Loop
    from train.record import Record

    job.run_folder.mkdir(parents=True, exist_ok=True)
    loop = Loop(
        launch=launch,
        task=task,
        schedule=schedule,
        optimizer_config=optimizer,
        execution=job.execution,
        module=module,
        lease=job.lease,
        record=Record(job.run_folder, schedule.max_steps, active=launch.is_main, unit=task.unit),
        checkpoints=Checkpoints(job.run_folder, keep=job.execution.keep_checkpoints),
    )
    scores = loop.run()
    launch.accelerator.wait_for_everyone()
    artifact = _publish(job, loop, scores, trained) if launch.is_main else None
    launch.accelerator.wait_for_everyone()
    if launch.world_size > 1:
        launch.accelerator.end_training()
    return artifact


def _publish(job: Job[Any, Any], loop: "Loop", scores: dict[str, float], trained: Trained) -> Artifact:
    from model.storage import save

    if job.lease is not None:
        job.lease.check()
    encoder = TextEncoder.of(trained.tokenizer)
    with job.draft() as draft:
        save(loop.module, draft.path)
        for name in TOKENIZER_FILES:
            (draft.path / name).write_bytes(trained.tokenizer.file(name).read_bytes())
        loop.record.publish(draft.record)
        draft.domain.update(_domain(loop.state.domains))
        draft.fact(
            task=trained.task,
            model=vars(loop.module.config),
            labels=list(getattr(loop.module, "labels", ())),
            parameters=sum(parameter.numel() for parameter in loop.module.parameters()),
            steps=loop.state.step,
            tokens=loop.state.tokens,
            vocab_size=encoder.vocab_size,
            tokenizer_digest=trained.tokenizer.digest,
            validation=scores,
        )
    return draft.artifact


def _domain(domains: tuple[dict[str, JSON], ...]) -> dict[str, JSON]:
    """Name the one domain of a run, or list those it moved between."""
    return domains[0] if len(domains) == 1 else {"moved": list(domains)}
