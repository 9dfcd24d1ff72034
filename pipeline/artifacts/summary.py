"""Machinery: an artifact in a line, what to type next, and how two recipes differ."""

from collections.abc import Iterator

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.identity import SHORT
from pipeline.artifacts.manifest import Recipe
from pipeline.runtime.hashing import JSON


def summarize(artifact: Artifact) -> str:
    """Say in a line what is in an artifact."""
    facts = artifact.facts
    match artifact.kind:
        case "corpus":
            documents, size = facts["documents"], facts["bytes"]
            rejected = sum(artifact.manifest.counts.get("rejected", {}).values())
            return f"{_by_split(documents)} documents, {sum(size.values()) / 1e6:.1f} MB, {rejected:,} rejected"
        case "tokenizer":
            fit = facts["bytes_per_token"]  # none for one that was imported without a text to measure it on
            return f"{facts['vocab_size']:,} ids" + (f", {fit:.2f} bytes per token" if fit is not None else "")
        case "shards":
            return f"{_by_split(facts['tokens'])} tokens"
        case "examples":
            return f"{_by_split(facts['examples'])} {facts['task']} examples"
        case "model":
            return f"{facts['task']}, {facts['parameters']:,} parameters, {facts['steps']:,} steps"
        case "evaluation":
            return ", ".join(f"{name} {value:.4g}" for name, value in facts["scores"].items())
    return f"{len(artifact.manifest.files)} files"


def _by_split(numbers: dict[str, int]) -> str:
    return " + ".join(f"{numbers[split]:,}" for split in ("train", "validation", "test") if split in numbers)


def next_commands(artifact: Artifact) -> list[str]:
    """Return what a person would type next with this artifact."""
    ref = artifact.short
    match artifact.kind:
        case "corpus":
            return [f"python -m pipeline.tokenizer --corpus {ref}"]
        case "tokenizer":
            corpus = artifact.manifest.recipe.inputs.get("corpus")
            name = f"corpus:{corpus.id[:SHORT]}" if corpus else "corpus:ID"
            return [f"python -m pipeline.shards --corpus {name} --tokenizer {ref}"]
        case "shards":
            return [f"python -m train.pretrain --shards {ref}"]
        case "model":
            return [*_uses_of_model(ref, artifact.facts["task"]), f"python -m train.evaluate {ref}"]
    return [f"python -m pipeline.artifacts show {ref}"]


def _uses_of_model(ref: str, task: str) -> Iterator[str]:
    if task == "assistant":
        yield f"python -m model.chat {ref}"
    elif task == "pretrained":
        yield f'python -m model.generate {ref} "Once"'


def differences(before: Recipe, after: Recipe) -> list[str]:
    """Say, field by field, what is asked for now that was not asked for before."""
    lines = []
    if (before.stage, before.stage_version) != (after.stage, after.stage_version):
        lines.append(f"stage {before.stage} {before.stage_version} -> {after.stage} {after.stage_version}")
    for role in sorted(set(before.inputs) | set(after.inputs)):
        old, new = before.inputs.get(role), after.inputs.get(role)
        if (old and old.digest) != (new and new.digest):
            lines.append(
                f"input {role} changed ({old.id[:SHORT] if old else 'none'} -> {new.id[:SHORT] if new else 'none'})"
            )
    lines.extend(changed_fields(before.config, after.config, "config"))
    lines.extend(changed_fields(before.toolchain, after.toolchain, "toolchain"))
    return lines


def changed_fields(before: JSON, after: JSON, where: str) -> Iterator[str]:
    """Yield a line for each place where two JSON values differ; `where` names the whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            yield from changed_fields(before.get(key), after.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from changed_fields(old, new, f"{where}[{i}]")
    elif before != after:
        yield f"{where} changed ({_brief(before)} -> {_brief(after)})"


def _brief(value: JSON) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
