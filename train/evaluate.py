"""Stage 8: score a model on held-out data.

model + shards or examples -> evaluation.  A language model gets loss, perplexity and bits per byte; a classifier
accuracy, macro-F1 and a confusion matrix beside the majority baseline; an assistant the loss on replies, and its
replies to held-out prompts beside the references.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model.config import Sampling
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.manifest import role_of
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError, UsageError
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
    """Scores for the manifest, and rows for predictions.jsonl."""

    scores: dict[str, float]
    predictions: list[dict[str, Any]]
    more: dict[str, Any]


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
    import torch

    from model.heads import SequenceClassifier
    from model.open import open_model
    from train.launch import launch

    config, execution, model = job.config, job.execution, job.inputs["model"]
    if all(role in job.inputs for role in DATA_ROLES):
        raise UsageError("name --shards or --examples, not both.")
    shards = job.inputs_of("shards")
    given = [*shards, *job.inputs_of("examples")]
    if not given:
        raise DataError(f"{model.short} does not say what it was trained on; name --shards or --examples.")
    for data in given:
        check_task(model, data)
        if data.facts["tokenizer_digest"] != model.facts["tokenizer_digest"]:
            raise ConfigError(f"{data.short} was made with another tokenizer than {model.short}.")
    module, encoder = open_model(model)
    started = launch(
        precision=config.precision,
        threads=execution.threads,
        micro_batch_size=execution.micro_batch_size,
        program=STAGE.module,
    )
    if started.world_size > 1:
        raise ConfigError("evaluation runs in one process: python -m train.evaluate REF.")
    split = choose_split(config.split, *given)
    module.to(started.accelerator.device)
    started.accelerator.prepare_model(module, evaluation_mode=True)
    module.eval()
    with torch.inference_mode():
        if isinstance(module, SequenceClassifier):
            result = _score_classifier(module, encoder, data, split, started, execution.micro_batch_size)
        elif shards:
            masked = bool(model.facts.get("document_mask"))
            result = _score_shards(module, encoder, shards, split, masked, started, execution.micro_batch_size)
        else:
            result = _score_assistant(module, encoder, data, split, started, config, execution.micro_batch_size)
    with job.draft() as draft:
        _write(draft.path, result, split)
        draft.fact(scores=result.scores, split=split, task=model.facts["task"])
        draft.domain.update(started.domain)
    return draft.artifact


def check_task(model: Artifact, data: Artifact) -> None:
    """Raise DataError when a model cannot be scored on `data`."""
    wanted = "classification" if model.facts["task"] == "classifier" else "conversation"
    if data.kind == "examples" and data.facts["task"] != wanted:
        raise DataError(f"{data.short} holds {data.facts['task']} examples, and {model.short} needs {wanted} examples.")
    if data.kind == "shards" and wanted == "classification":
        raise DataError(f"{model.short} is a classifier and is scored on examples, not on {data.short}.")


def choose_split(wanted: str, *data: Artifact) -> str:
    """Return the split to score on; DataError when one of the data has no such split."""
    present = [one.facts["documents" if one.kind == "shards" else "examples"] for one in data]
    split = wanted if wanted != "auto" else "test" if all("test" in splits for splits in present) else "validation"
    for one, splits in zip(data, present, strict=True):
        if split not in splits:
            raise DataError(f"{one.short} has no {split} split; it has {', '.join(splits)}.")
    return split


def _score_shards(
    module: "CausalLM",
    encoder: "TextEncoder",
    shards: list[Artifact],
    split: str,
    masked: bool,
    launch: "Launch",
    batch_size: int,
) -> Result:
    """Score all shard sets together, every token alike, and where there are several also each by itself."""
    from train.data import WindowData
    from train.scoring import TokenBytes, score_windows

    length, sizes = module.config.context_length, TokenBytes.of(encoder.token_bytes)

    def score(some: list[Artifact]) -> tuple[dict[str, float], int]:
        data = WindowData.held_out(some, split, length, document_mask=masked)
        return score_windows(module, data, sizes, launch, batch_size), len(data)

    scores, windows = score(shards)
    alone = {one.short: score([one])[0] for one in shards} if len(shards) > 1 else {}
    return Result(scores, [], {"windows": windows, **({"by_shards": alone} if alone else {})})


def _score_classifier(
    module: "SequenceClassifier", encoder: "TextEncoder", data: Artifact, split: str, launch: "Launch", batch_size: int
) -> Result:
    from train.data import ExampleData
    from train.objectives import classification_scores, confusion_matrix
    from train.scoring import predict_labels

    if data.facts.get("labels") != list(module.labels):
        raise DataError(
            f"{data.short} has the labels {data.facts.get('labels')}, the classifier {list(module.labels)}."
        )
    rows = ExampleData(data, split, module.config.context_length)
    found, right = predict_labels(module, rows, launch, batch_size), rows.column("label")
    names = module.labels
    predictions = [
        {"text": encoder.decode(ids), "label": names[label], "predicted": names[guess]}
        for ids, label, guess in zip(rows.column("input_ids"), right, found, strict=True)
    ]
    matrix = confusion_matrix(right, found, len(names))
    return Result(
        classification_scores(right, found, len(names)), predictions, {"labels": list(names), "confusion": matrix}
    )


def _score_assistant(
    module: "CausalLM",
    encoder: "TextEncoder",
    data: Artifact,
    split: str,
    launch: "Launch",
    config: EvaluateConfig,
    batch_size: int,
) -> Result:
    from model.decoding import generate
    from train.data import ExampleData
    from train.scoring import TokenBytes, prompt_of, score_conversations

    rows = ExampleData(data, split, module.config.context_length)
    scores = score_conversations(module, rows, TokenBytes.of(encoder.token_bytes), launch, batch_size)
    sampling = Sampling(temperature=0.0, max_new_tokens=config.max_new_tokens)
    predictions = []
    for row in _spread(len(rows), config.replies):
        prompt, reference = prompt_of(rows, row)
        reply = generate(module, prompt, sampling, stop_ids=encoder.stop_ids, banned_ids=encoder.role_ids)
        predictions.append(
            {
                "prompt": encoder.decode(prompt),
                "reply": encoder.decode(list(reply)),
                "reference": encoder.decode(reference),
            }
        )
    return Result(scores, predictions, {})


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
    version=1,
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
