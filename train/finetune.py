"""Machinery: what the two fine-tuning stages share: their settings, and how they open what they start from."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from model.config import GPTConfig
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError
from pipeline.stage import Role
from train.launch import Precision
from train.optim import OptimizerConfig

if TYPE_CHECKING:
    from model.heads import CausalLM
    from pipeline.encoding import TextEncoder

ROLES = {
    "base": Role(kinds=("model",), help="the pretrained model to start from"),
    "examples": Role(kinds=("examples",), help="what to learn from"),
    "tokenizer": Role(kinds=("tokenizer",), help="the examples' own, found by itself"),
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How long to fine-tune, and how."""

    max_steps: int | None = None
    """optimizer steps; None: as many as `epochs` take"""
    epochs: float = 3.0
    """times every example is seen, when max_steps is not given"""
    global_batch_size: int = 32
    """examples in one optimizer step, over all processes"""
    eval_steps: int = 100
    """an evaluation every so many steps"""
    dropout: float = 0.0
    """while fine-tuning"""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes in it"""
    seed: int = 0
    """of the new weights, the order and dropout"""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="adamw", learning_rate=5e-4, weight_decay=0.01)
    )

    def __post_init__(self) -> None:
        if self.global_batch_size < 1:
            raise ConfigError(f"global_batch_size must be at least 1, got {self.global_batch_size}.")


def imply_tokenizer(inputs: dict[str, Artifact], store: Store) -> dict[str, Artifact]:
    """Take the tokenizer that the examples were encoded with."""
    if "examples" not in inputs or "tokenizer" in inputs:
        return inputs
    name = inputs["examples"].manifest.recipe.inputs["tokenizer"]
    tokenizer = store.find_input(name.kind, name.id, name.digest)
    tokenizer.verify()
    return {**inputs, "tokenizer": tokenizer}


def open_base(inputs: dict[str, Artifact], config: FinetuneConfig, task: str) -> "tuple[CausalLM, TextEncoder]":
    """Load the base model with the dropout asked for; examples, tokenizer and model must belong together.

    Raises DataError for a model or examples of another kind, ConfigError for another tokenizer.
    """
    from model.heads import CausalLM
    from model.open import open_model
    from train.training import check_tokenizer

    base, examples = inputs["base"], inputs["examples"]
    if examples.facts["task"] != task:
        raise DataError(f"{examples.short} holds {examples.facts['task']} examples, and {task} examples are needed.")
    check_tokenizer(inputs["tokenizer"], base, examples)
    module, encoder = open_model(base)
    if not isinstance(module, CausalLM):
        raise DataError(f"{base.short} is a classifier; fine-tuning starts from a language model.")
    changed: GPTConfig = replace(module.config, dropout=config.dropout)
    if changed == module.config:
        return module, encoder
    again = CausalLM(changed)
    again.load_state_dict(module.state_dict())
    return again, encoder
