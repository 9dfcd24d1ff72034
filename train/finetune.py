"""Machinery: what the two fine-tuning stages share: their settings, and how they open what they start from."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from model.config import GPTConfig
from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.stage.definition import Job, Role, Stage
from train.config import TrainingConfig, TrainingExecution
from train.optim import OptimizerConfig
from train.training import check_tokenizer, infer_tokenizer, next_commands_of_model, summarize_model

if TYPE_CHECKING:
    from model.heads import CausalLM
    from pipeline.tokenization.text_encoder import TextEncoder

ROLES = {
    "base": Role(kinds=("model",), help="the pretrained model to start from"),
    "examples": Role(kinds=("examples",), help="what to learn from"),
    "tokenizer": Role(kinds=("tokenizer",), help="the examples' own, found by itself"),
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """How to fine-tune."""

    epochs: float = 3.0
    """times every example is seen, when max_steps is not given"""
    global_batch_examples: int = 32
    """examples in one optimizer step, over all processes"""
    dropout: float = 0.0
    """while fine-tuning"""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="adamw", learning_rate=5e-4, weight_decay=0.01)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.global_batch_examples < 1:
            raise ConfigError(f"global_batch_examples must be at least 1, got {self.global_batch_examples}.")

    @property
    def global_batch_size(self) -> int:
        return self.global_batch_examples


def finetuning_stage(
    module: str, run: "Callable[[Job[FinetuneConfig, TrainingExecution]], Artifact | None]"
) -> Stage[FinetuneConfig, TrainingExecution]:
    """Describe a stage that goes on from a pretrained model."""
    return Stage(
        module=module,
        version=2,
        kind="model",
        config=FinetuneConfig,
        execution=TrainingExecution,
        roles=ROLES,
        determinism="domain",
        toolchain=(),
        run=run,
        summarize=summarize_model,
        next_commands=next_commands_of_model,
        infer_inputs=infer_tokenizer("examples"),
        launchable=True,
    )


def open_base(inputs: dict[str, Artifact], config: FinetuneConfig, example_type: str) -> "tuple[CausalLM, TextEncoder]":
    """Load the base model with the dropout asked for; examples, tokenizer and model must belong together.

    Raises DataError for a model or examples of another kind, ConfigError for another tokenizer.
    """
    from model.heads import CausalLM
    from model.open import open_model

    base, examples = inputs["base"], inputs["examples"]
    if (found := examples.facts["example_type"]) != example_type:
        raise DataError(f"{examples.short} holds {found} examples, and {example_type} examples are needed.")
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
