"""Stage 4: train a GPT from nothing to predict the next token.

shards -> model.  Samples are sliding windows of context_length tokens; the order of samples, the learning rate and
dropout are functions of the seed and the step, so a killed run ends in the same bytes as one that was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.config import Architecture, GPTConfig, Sampling
from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError
from pipeline.stage.definition import Job, Role, Stage
from pipeline.stage.program import main_of
from train.config import TrainingConfig, TrainingExecution
from train.training import (
    check_tokenizer,
    infer_tokenizer,
    next_commands_of_model,
    start,
    summarize_model,
    train_and_publish,
)

if TYPE_CHECKING:
    from model.heads import CausalLM
    from pipeline.loading.mixture import Mixture
    from pipeline.tokenization.text_encoder import TextEncoder
    from train.data import WindowData
    from train.launch import Launch
    from train.objectives import Objective


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainingConfig):
    """What network to train, and how long."""

    global_batch_tokens: int = 8192
    """tokens in one optimizer step, over all processes; a multiple of context_length"""
    stride: int | None = None
    """tokens from one window's start to the next; None: context_length"""
    weights: tuple[float, ...] = ()
    """shares of the samples, one for each of several --shards, exact to the sample; none: every sample once an epoch"""
    document_mask: bool = False
    """attention sees only tokens of the same document; an end-of-text id is read with what follows it"""
    sample_prompt: str = ""
    """how the sample of text begins; nothing: a new document"""
    model: Architecture = field(default_factory=Architecture)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"pretrain.stride must be at least 1, got {self.stride}.")
        if self.global_batch_tokens < 1 or self.global_batch_tokens % self.model.context_length:
            raise ConfigError(
                f"pretrain.global_batch_tokens must be a multiple of model.context_length, got "
                f"{self.global_batch_tokens} and {self.model.context_length}."
            )
        if self.weights:
            from pipeline.loading.mixture import whole_shares

            whole_shares(self.weights)

    @property
    def global_batch_size(self) -> int:
        return self.global_batch_tokens // self.model.context_length


def run(job: Job[PretrainConfig, TrainingExecution]) -> Artifact | None:
    """Build the network and its objective, and run the loop."""
    from model.gpt import init_weights
    from model.heads import CausalLM
    from pipeline.tokenization.text_encoder import TextEncoder

    config, shards = job.config, job.inputs_of("shards")
    encoder = TextEncoder.of(check_tokenizer(job.inputs["tokenizer"], *shards))
    data, held_out = _windows(config, shards)
    launch = start(job)
    module = CausalLM(GPTConfig.of(config.model, vocab_size=encoder.vocab_size))
    init_weights(module, config.seed)
    objective = _objective(job, encoder, data, held_out, launch)
    facts = {"document_mask": True} if config.document_mask else {}
    return train_and_publish(job, launch, module, objective, purpose="pretrained", facts=facts)


def _windows(config: PretrainConfig, shards: list[Artifact]) -> "tuple[WindowData, WindowData]":
    """Return the windows to learn from, and those to be scored on."""
    from train.data import WindowData

    length, masked = config.model.context_length, config.document_mask
    return (
        WindowData.training(shards, length, config.stride, document_mask=masked),
        WindowData.held_out(shards, "validation", length, document_mask=masked),
    )


def _objective(
    job: Job[PretrainConfig, TrainingExecution],
    encoder: "TextEncoder",
    data: "WindowData",
    held_out: "WindowData",
    launch: "Launch",
) -> "Objective[CausalLM]":
    """Predict the next token, everywhere."""
    from model.decoding import generate
    from train.data import count_targets
    from train.objectives import Objective, logits_of, next_token_loss
    from train.scoring import TokenBytes, score_windows

    config, token_bytes = job.config, TokenBytes.of(encoder.token_bytes)
    prompt = encoder.encode(config.sample_prompt) or [encoder.end_of_text]

    def sample(module: "CausalLM") -> str:
        ids = generate(module, prompt, Sampling(seed=config.seed), stop_ids=frozenset([encoder.end_of_text]))
        return config.sample_prompt + encoder.decode(list(ids))

    return Objective(
        samples=len(data),
        order=_order(config, data.sizes),
        batch=data.batch,
        targets=count_targets,
        loss=lambda module, batch: next_token_loss(logits_of(module, batch), batch["labels"]),
        evaluate=lambda module: score_windows(module, held_out, token_bytes, launch, job.execution.micro_batch_size),
        sample=sample,
    )


def _order(config: PretrainConfig, sizes: tuple[int, ...]) -> "Mixture | None":
    """Mix the shard sets by weight; without weights they are one big set. Raises ConfigError for one weight too few."""
    from pipeline.loading.mixture import Mixture, whole_shares

    if not config.weights:
        return None
    if len(config.weights) != len(sizes):
        raise ConfigError(f"pretrain.weights has {len(config.weights)} values for {len(sizes)} shard set(s).")
    return Mixture(sizes, whole_shares(config.weights), config.seed)


STAGE = Stage(
    module="train.pretrain",
    version=2,
    kind="model",
    config=PretrainConfig,
    execution=TrainingExecution,
    roles={
        "shards": Role(kinds=("shards",), help="the tokens to learn from", many=True),
        "tokenizer": Role(kinds=("tokenizer",), help="the shards' own, found by itself"),
    },
    determinism="domain",
    toolchain=(),
    run=run,
    summarize=summarize_model,
    next_commands=next_commands_of_model,
    infer_inputs=infer_tokenizer("shards"),
    launchable=True,
)


def main(argv: Sequence[str] | None = None) -> int:
    return main_of(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
