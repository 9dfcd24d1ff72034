"""Machinery: a network as two files, config.json and model.safetensors; the same weights give the same bytes.

config.json is {"architecture": "causal_lm" | "sequence_classifier", "labels": [...], "model": {GPTConfig's fields}}.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import GPTConfig
from model.heads import CausalLM, SequenceClassifier
from pipeline.artifacts import old_names
from pipeline.errors import ConfigError, DataError, IntegrityError, MissingError
from pipeline.runtime.settings import from_json, json_of

Model = CausalLM | SequenceClassifier

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DTYPES = (torch.float32, torch.bfloat16)


def save(model: Model, folder: Path) -> None:
    """Write both files into an existing folder, readable by everybody; refuse weights that are not finite."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(state, folder / WEIGHTS)
    # More metadata than one key would make the bytes depend on a hash seed.
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(describe(model), encoding="utf-8")
    for name in (CONFIG, WEIGHTS):
        (folder / name).chmod(0o644)


def load(folder: Path, device: torch.device | str = "cpu") -> Model:
    """Read a network back, in evaluation mode; what is missing, left over, misshapen or not finite raises."""
    model = build(folder / CONFIG)
    path = folder / WEIGHTS
    state = _read_tensors(path)
    _check_layout(state, model.state_dict(), path)
    _check_finite(state, path)
    model.to(next(iter(state.values())).dtype).load_state_dict(state)
    return model.to(device).eval()


def describe(model: Model) -> str:
    """Write config.json's text."""
    labels = model.labels if isinstance(model, SequenceClassifier) else ()
    architecture = "sequence_classifier" if isinstance(model, SequenceClassifier) else "causal_lm"
    content = {"architecture": architecture, "model": json_of(model.config), "labels": list(labels)}
    return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def build(path: Path) -> Model:
    """Build the network a config.json describes; its weights are still to come."""
    content = _read_json(path)
    try:
        content = old_names.renamed(content, old_names.NETWORK_FILE)
        architecture, labels = content["architecture"], content["labels"]
        config = from_json(GPTConfig, content["model"], str(path))
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{path} does not describe a network: {error}") from error
    if architecture == "causal_lm" and labels == []:
        return CausalLM(config)
    if architecture == "sequence_classifier" and isinstance(labels, list):
        return SequenceClassifier(config, labels)
    raise DataError(f"{path} has an unknown architecture {architecture!r} with labels {labels!r}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON: {error}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
        return state
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except SafetensorError as error:
        raise IntegrityError(f"{path} is cut short or damaged: {error}") from error


def _check_layout(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    for name in sorted(state.keys() | wanted.keys()):
        if name not in state:
            raise DataError(f"{path} has no tensor {name}")
        if name not in wanted:
            raise DataError(f"{path} has a tensor {name} that its config.json has no place for")
        if state[name].shape != wanted[name].shape:
            found, want = tuple(state[name].shape), tuple(wanted[name].shape)
            raise DataError(f"{path}: {name} has shape {found}, its config.json wants {want}")
    dtypes = {tensor.dtype for tensor in state.values()}
    for name, tensor in sorted(state.items()):
        if tensor.dtype not in DTYPES or len(dtypes) > 1:
            raise DataError(f"{path}: {name} is {tensor.dtype}; all must be one of {DTYPES}, and the same")


def _check_finite(state: dict[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds values that are not finite")
