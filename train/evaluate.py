"""Stage 8: score a model on held-out data.

model + shards or examples -> evaluation.  A language model gets loss, perplexity and bits per byte; a classifier
accuracy, macro-F1 and a confusion matrix beside the majority baseline; an assistant the loss on replies, and its
replies to held-out prompts beside the references.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model.config import Sampling
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import role_of
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError, UsageError
from pipeline.runtime.hashing import JSON
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.program import main_of
from train.launch import Precision

if TYPE_CHECKING:
    from model.heads import CausalLM, SequenceClassifier
    from pipeline.tokenization.text_encoder import TextEncoder
    from train.launch import Launch

DATA_ROLES = ("shards", "examples")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to score on, and how."""

    split: Literal["auto", "validation", "test"] = "auto"
    """auto: test where the data has one, else validation"""
    replies: int = 10
    """held-out prompts an assistant replies to"""
    max_new_tokens: int = 80
    """of a reply"""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes in it"""

    def __post_init__(self) -> None:
        if self.replies < 0:
            raise ConfigError(f"evaluate.replies must not be negative, got {self.replies}.")
        if self.max_new_tokens < 1:
            raise ConfigError(f"evaluate.max_new_tokens must be at least 1, got {self.max_new_tokens}.")


@dataclass(frozen=True, kw_only=True)
class EvaluateExecution:
    """How it is computed; in the determinism domain."""

    micro_batch_size: int = 16
    """samples in memory at once, per process"""
    threads: int | None = None
    """of the processor; None: all"""

    def __post_init__(self) -> None:
        if self.micro_batch_size < 1:
            raise ConfigError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}.")


@dataclass(frozen=True)
class Result:
    """Scores for the manifest, rows for predictions.jsonl, and what else metrics.json says."""

    scores: dict[str, float]
    predictions: list[dict[str, JSON]] = field(default_factory=list)
    more: dict[str, JSON] = field(default_factory=dict)


def infer_data(inputs: dict[str, Artifact], store: Store) -> dict[str, Artifact]:
    """Take the data the model was trained on, whose held-out splits it has not seen."""
    if "model" not in inputs or any(role in inputs for role in DATA_ROLES):
        return inputs
    names = inputs["model"].manifest.recipe.inputs
    found = {key: name for key, name in names.items() if role_of(key) in DATA_ROLES}
    data = {key: store.find_input(name.kind, name.id, name.digest) for key, name in found.items()}
    for artifact in data.values():
        artifact.verify()
    return {**inputs, **data}


def run(job: Job[EvaluateConfig, EvaluateExecution]) -> Artifact:
    """Score the model and publish scores and predictions."""
    from model.open import open_model

    model, data = job.inputs["model"], _data(job)
    module, encoder = open_model(model)
    launch = _launch(job)
    split = choose_split(job.config.split, *data)
    module.to(launch.accelerator.device)
    launch.accelerator.prepare_model(module, evaluation_mode=True)
    result = Scorer(job, encoder, split, launch).score(module.eval(), data)
    with job.draft() as draft:
        _write(draft.path, result, split)
        draft.fact(scores=result.scores, split=split, purpose=model.facts["purpose"])
        draft.domain.update(launch.domain)
    return draft.artifact


def _data(job: Job[EvaluateConfig, EvaluateExecution]) -> list[Artifact]:
    """Return what the model is scored on, shard sets or one examples artifact, once it is known to fit the model."""
    model = job.inputs["model"]
    if all(role in job.inputs for role in DATA_ROLES):
        raise UsageError("name --shards or --examples, not both.")
    given = [artifact for role in DATA_ROLES for artifact in job.inputs_of(role)]
    if not given:
        raise DataError(f"{model.short} does not say what it was trained on; name --shards or --examples.")
    for data in given:
        check_fits(model, data)
    return given


def check_fits(model: Artifact, data: Artifact) -> None:
    """Raise DataError when a model cannot be scored on `data`, and ConfigError when their tokenizers differ."""
    wanted = "classification" if model.facts["purpose"] == "classifier" else "conversation"
    if data.kind == "examples" and (found := data.facts["example_type"]) != wanted:
        raise DataError(f"{data.short} holds {found} examples, and {model.short} needs {wanted} examples.")
    if data.kind == "shards" and wanted == "classification":
        raise DataError(f"{model.short} is a classifier and is scored on examples, not on {data.short}.")
    if data.facts["tokenizer_digest"] != model.facts["tokenizer_digest"]:
        raise ConfigError(f"{data.short} was made with another tokenizer than {model.short}.")


def _launch(job: Job[EvaluateConfig, EvaluateExecution]) -> "Launch":
    from train.launch import launch

    started = launch(
        precision=job.config.precision,
        threads=job.execution.threads,
        micro_batch_size=job.execution.micro_batch_size,
        program=job.stage.module,
    )
    if started.world_size > 1:
        raise ConfigError("evaluation runs in one process: python -m train.evaluate REF.")
    return started


def choose_split(wanted: str, *data: Artifact) -> str:
    """Return the split to score on; DataError when one of the data has no such split."""
    present = [one.facts["documents" if one.kind == "shards" else "examples"] for one in data]
    split = wanted if wanted != "auto" else "test" if all("test" in splits for splits in present) else "validation"
    for one, splits in zip(data, present, strict=True):
        if split not in splits:
            raise DataError(f"{one.short} has no {split} split; it has {', '.join(splits)}.")
    return split


@dataclass(frozen=True)
class Scorer:
    """Scores a model by what it is: each purpose has its own scores."""

    job: Job[EvaluateConfig, EvaluateExecution]
    encoder: "TextEncoder"
    split: str
    launch: "Launch"

    @property
    def batch_size(self) -> int:
        return self.job.execution.micro_batch_size

    def score(self, module: "CausalLM | SequenceClassifier", data: list[Artifact]) -> Result:
        """Score a classifier on its examples, a language model on shards, and on conversations by its replies."""
        import torch

        from model.heads import SequenceClassifier

        with torch.inference_mode():
            if isinstance(module, SequenceClassifier):
                return self.classifier(module, data[0])
            if data[0].kind == "shards":
                return self.language_model(module, data)
            return self.assistant(module, data[0])

    def language_model(self, module: "CausalLM", shards: list[Artifact]) -> Result:
        """Score all shard sets together, every token alike, and where there are several also each by itself."""
        from train.data import WindowData
        from train.scoring import TokenBytes, score_windows

        length, sizes = module.config.context_length, TokenBytes.of(self.encoder.token_bytes)
        masked = bool(self.job.inputs["model"].facts.get("document_mask"))

        def score(some: list[Artifact]) -> tuple[dict[str, float], int]:
            data = WindowData.held_out(some, self.split, length, document_mask=masked)
            return score_windows(module, data, sizes, self.launch, self.batch_size), len(data)

        scores, windows = score(shards)
        alone = {one.short: score([one])[0] for one in shards} if len(shards) > 1 else {}
        return Result(scores, more={"windows": windows, **({"by_shards": alone} if alone else {})})

    def classifier(self, module: "SequenceClassifier", examples: Artifact) -> Result:
        """Score the labels that a classifier gives, and say for each text which one that is."""
        from train.data import ExampleData
        from train.objectives import classification_scores, confusion_matrix
        from train.scoring import predict_labels

        names = module.labels
        if (labels := examples.facts.get("labels")) != list(names):
            raise DataError(f"{examples.short} has the labels {labels}, the classifier {list(names)}.")
        rows = ExampleData(examples, self.split, module.config.context_length)
        found, right = predict_labels(module, rows, self.launch, self.batch_size), rows.column("label")
        predictions = [
            {"text": self.encoder.decode(ids), "label": names[label], "predicted": names[guess]}
            for ids, label, guess in zip(rows.column("input_ids"), right, found, strict=True)
        ]
        matrix = confusion_matrix(right, found, len(names))
        scores = classification_scores(right, found, len(names))
        return Result(scores, predictions, {"labels": list(names), "confusion": matrix})

    def assistant(self, module: "CausalLM", examples: Artifact) -> Result:
        """Score the replies of a split, and let the model reply to some of its prompts itself."""
        from model.decoding import generate
        from train.data import ExampleData
        from train.scoring import TokenBytes, prompt_of, score_conversations

        config, encoder = self.job.config, self.encoder
        rows = ExampleData(examples, self.split, module.config.context_length)
        scores = score_conversations(module, rows, TokenBytes.of(encoder.token_bytes), self.launch, self.batch_size)
        sampling = Sampling(temperature=0.0, max_new_tokens=config.max_new_tokens)
        predictions: list[dict[str, JSON]] = []
        for row in _spread(len(rows), config.replies):
            prompt, reference = prompt_of(rows, row)
            reply = generate(module, prompt, sampling, stop_ids=encoder.stop_ids, banned_ids=encoder.role_ids)
            texts = {"prompt": prompt, "reply": list(reply), "reference": reference}
            predictions.append({name: encoder.decode(ids) for name, ids in texts.items()})
        return Result(scores, predictions)


def _spread(size: int, count: int) -> list[int]:
    """Return `count` places that are spread evenly over `size` rows: _spread(10, 3) == [0, 3, 6]."""
    return [i * size // count for i in range(min(count, size))]


def _write(folder: Path, result: Result, split: str) -> None:
    page = {"split": split, "scores": result.scores, **result.more}
    (folder / "metrics.json").write_text(json.dumps(page, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in result.predictions)


STAGE = Stage(
    module="train.evaluate",
    version=2,
    kind="evaluation",
    config=EvaluateConfig,
    execution=EvaluateExecution,
    roles={
        "model": Role(kinds=("model",), help="the model to score"),
        "shards": Role(
            kinds=("shards",),
            help="a token stream to score on; by default what it was trained on",
            optional=True,
            many=True,
        ),
        "examples": Role(
            kinds=("examples",), help="examples to score on; by default what it was trained on", optional=True
        ),
    },
    determinism="domain",
    toolchain=(),
    run=run,
    summarize=lambda artifact: ", ".join(f"{name} {value:.4g}" for name, value in artifact.facts["scores"].items()),
    infer_inputs=infer_data,
    positional="model",
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
