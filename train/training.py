"""Machinery: what the training stages share: build the loop, run it, publish the model."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError
from pipeline.runtime.hashing import JSON
from pipeline.runtime.settings import json_of
from pipeline.stage.definition import Job
from pipeline.tokenization.text_encoder import TOKENIZER_FILES
from train.config import TrainingConfig, TrainingExecution
from train.launch import Launch

if TYPE_CHECKING:
    from train.loop import Loop
    from train.objectives import M, Objective

C = TypeVar("C", bound=TrainingConfig)


def start(job: Job[C, TrainingExecution]) -> Launch:
    """Set up processes, device and precision for a training stage."""
    from train.launch import launch

    return launch(
        precision=job.config.precision,
        threads=job.execution.threads,
        micro_batch_size=job.execution.micro_batch_size,
        program=job.stage.module,
        run_folder=job.run_folder,
    )


def infer_tokenizer(role: str) -> Callable[[dict[str, Artifact], Store], dict[str, Artifact]]:
    """Return what takes, for the role `tokenizer`, the one that the input `role` was encoded with."""

    def infer(inputs: dict[str, Artifact], store: Store) -> dict[str, Artifact]:
        if role not in inputs or "tokenizer" in inputs:
            return inputs
        name = inputs[role].manifest.recipe.inputs["tokenizer"]
        tokenizer = store.find_input(name.kind, name.id, name.digest)
        tokenizer.verify()
        return {**inputs, "tokenizer": tokenizer}

    return infer


def check_tokenizer(tokenizer: Artifact, *made_with: Artifact) -> Artifact:
    """Return `tokenizer`, if it is the one whose ids the others hold; ids of two tokenizers never mix.

    Raises ConfigError naming both, or the two of `made_with` that differ.
    """
    for artifact in made_with:
        if artifact.facts["tokenizer_digest"] != made_with[0].facts["tokenizer_digest"]:
            raise ConfigError(f"{made_with[0].short} and {artifact.short} were made with different tokenizers.")
        if artifact.facts["tokenizer_digest"] != tokenizer.digest:
            raise ConfigError(f"{artifact.short} was made with another tokenizer than {tokenizer.short}.")
    return tokenizer


def train_and_publish(
    job: Job[C, TrainingExecution],
    launch: Launch,
    module: "M",
    objective: "Objective[M]",
    *,
    purpose: str,
    facts: Mapping[str, JSON] | None = None,
) -> Artifact | None:
    """Run the loop and publish what came out as a model for `purpose`: pretrained, classifier or assistant.

    `facts` is what else those who use the model must know.  Only the main process has an artifact to return.
    """
    job.run_folder.mkdir(parents=True, exist_ok=True)
    loop = _loop(job, launch, module, objective)
    scores = loop.run()
    launch.accelerator.wait_for_everyone()
    artifact = _publish(job, loop, scores, {**(facts or {}), "purpose": purpose}) if launch.is_main else None
    launch.accelerator.wait_for_everyone()
    if launch.world_size > 1:
        launch.accelerator.end_training()
    return artifact


def _loop(job: Job[C, TrainingExecution], launch: Launch, module: "M", objective: "Objective[M]") -> "Loop[M]":
    """Set the loop up in the job's run folder, where an earlier attempt may have left checkpoints."""
    from train.checkpoint import Checkpoints
    from train.loop import Loop
    from train.record import Record

    max_steps = job.config.steps(objective.samples)
    return Loop(
        launch=launch,
        objective=objective,
        config=job.config,
        max_steps=max_steps,
        execution=job.execution,
        module=module,
        lease=job.lease,
        record=Record(job.run_folder, max_steps, active=launch.is_main, unit=objective.unit),
        checkpoints=Checkpoints(job.run_folder, keep=job.execution.save_total_limit),
    )


def _publish(
    job: Job[C, TrainingExecution], loop: "Loop[M]", scores: dict[str, float], facts: dict[str, JSON]
) -> Artifact:
    from model.storage import save

    if job.lease is not None:
        job.lease.check()
    tokenizer = job.inputs["tokenizer"]
    with job.draft() as draft:
        save(loop.module, draft.path)
        for name in TOKENIZER_FILES:
            (draft.path / name).write_bytes(tokenizer.file(name).read_bytes())
        loop.record.publish(draft.record)
        draft.domain.update(_domain(loop.state.domains))
        draft.fact(
            **facts,
            model=json_of(loop.module.config),
            labels=list(getattr(loop.module, "labels", ())),
            parameters=sum(parameter.numel() for parameter in loop.module.parameters()),
            steps=loop.state.step,
            tokens=loop.state.tokens,
            vocab_size=loop.module.config.vocab_size,
            tokenizer_digest=tokenizer.digest,
            validation=scores,
        )
    return draft.artifact


def _domain(domains: tuple[dict[str, JSON], ...]) -> dict[str, JSON]:
    """Name the one domain of a run, or list those it moved between."""
    return domains[0] if len(domains) == 1 else {"moved": list(domains)}


def summarize_model(artifact: Artifact) -> str:
    """Say in a line what a model is for, and how large and how trained it is."""
    facts = artifact.facts
    return f"{facts['purpose']}, {facts['parameters']:,} parameters, {facts['steps']:,} steps"


def next_commands_of_model(artifact: Artifact) -> list[str]:
    """Return what a person would type next with a model."""
    use = {"assistant": "model.chat {}", "pretrained": 'model.generate {} "Once"'}.get(artifact.facts["purpose"])
    commands = [f"python -m {use.format(artifact.short)}"] if use else []
    return [*commands, f"python -m train.evaluate {artifact.short}"]
