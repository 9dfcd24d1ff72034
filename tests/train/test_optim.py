"""The learning rate by hand, which parameter goes where, and a state that comes back bit for bit."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from model.config import GPTConfig
from model.gpt import init_weights
from model.heads import CausalLM, SequenceClassifier
from pipeline.errors import ConfigError
from train.optim import OptimizerConfig, Optimizers, learning_rate_factor

WSD = OptimizerConfig(schedule="wsd", warmup_steps=4, decay_fraction=0.4, min_lr_ratio=0.0)
COSINE = OptimizerConfig(schedule="cosine", warmup_steps=4, min_lr_ratio=0.1)


def network(**options: object) -> CausalLM:
    config = {"vocab_size": 29, "context_length": 8, "n_layer": 2, "n_head": 2, "n_embd": 16, **options}
    module = CausalLM(GPTConfig(**config))  # type: ignore[arg-type]
    init_weights(module, 0)
    return module


@pytest.mark.parametrize(
    "step, factor",
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (12, 1.0), (13, 7 / 8), (16, 0.5), (19, 1 / 8)],
)
def test_wsd_warms_up_stays_and_falls_in_a_line(step: int, factor: float) -> None:
    assert learning_rate_factor(WSD, step, 20) == pytest.approx(factor)


@pytest.mark.parametrize("step, factor", [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.55), (20, 0.1), (30, 0.1)])
def test_cosine_warms_up_and_falls_to_the_lowest_rate(step: int, factor: float) -> None:
    assert learning_rate_factor(COSINE, step, 20) == pytest.approx(factor)


def test_cosine_is_half_a_cosine() -> None:
    assert learning_rate_factor(COSINE, 8, 20) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_wsd_ends_at_the_lowest_rate() -> None:
    assert learning_rate_factor(replace(WSD, min_lr_ratio=0.2), 19, 20) == pytest.approx(0.2 + 0.8 / 8)


@pytest.mark.parametrize("warmup_steps", [0, 50])
def test_a_run_of_any_length_has_a_learning_rate(warmup_steps: int) -> None:
    for schedule in ("wsd", "cosine"):
        config = OptimizerConfig(schedule=schedule, warmup_steps=warmup_steps)  # type: ignore[arg-type]
        assert all(0 < learning_rate_factor(config, step, 5) <= 1 for step in range(5))


def groups_of(module: nn.Module, config: OptimizerConfig) -> dict[str, tuple[str, float]]:
    """Return for each parameter which optimizer has it, and its weight decay."""
    optimizers = Optimizers(module, config)
    return {
        optimizers.names[parameter]: (type(optimizer).__name__, group["weight_decay"])
        for optimizer, _ in optimizers._peaks
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    module = network(bias=True, norm="layernorm", position="learned", tie_word_embeddings=False)
    found = groups_of(module, OptimizerConfig(weight_decay=0.1))
    assert found.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        in_block = "blocks." in name
        if parameter.dim() == 2 and in_block:
            assert found[name] == ("Muon", 0.1), name
        elif name == "lm_head.weight":
            assert found[name] == ("AdamW", 0.1), name
        else:
            assert found[name] == ("AdamW", 0.0), name


def test_adamw_alone_moves_everything_and_decays_matrices_but_no_embedding() -> None:
    module = network()
    found = groups_of(module, OptimizerConfig(name="adamw", weight_decay=0.1))
    assert {optimizer for optimizer, _ in found.values()} == {"AdamW"}
    assert found["backbone.embedding.weight"][1] == 0.0
    assert {n for n, (_, decay) in found.items() if decay} == {
        n for n, p in module.named_parameters() if p.dim() == 2
    } - {"backbone.embedding.weight"}


def test_a_classifiers_head_is_adamws() -> None:
    module = SequenceClassifier(network().config, ["a", "b"])
    assert groups_of(module, OptimizerConfig())["score.weight"] == ("AdamW", 0.1)


def steps(module: CausalLM, optimizers: Optimizers, first: int, last: int) -> None:
    """Move the weights along random gradients that depend on the step alone."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizers.step(1.0 / (1 + step))


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_optimizers_go_on_bit_for_bit_from_their_saved_state(name: str) -> None:
    config = OptimizerConfig(name=name)  # type: ignore[arg-type]
    whole = network()
    steps(whole, whole_optimizers := Optimizers(whole, config), 0, 6)
    first = network()
    steps(first, optimizers := Optimizers(first, config), 0, 3)
    weights, state = first.state_dict(), {k: v.clone() for k, v in optimizers.state().items()}
    second = network()
    second.load_state_dict(weights)
    again = Optimizers(second, config)
    again.load(state)
    assert all(torch.equal(again.state()[key], value) for key, value in state.items())
    assert again.state().keys() == state.keys()
    steps(second, again, 3, 6)
    assert all(torch.equal(p, q) for p, q in zip(second.parameters(), whole.parameters(), strict=True))
    assert all(torch.equal(again.state()[key], value) for key, value in whole_optimizers.state().items())


def test_without_their_state_optimizers_would_go_elsewhere() -> None:
    whole, forgetful = network(), network()
    steps(whole, Optimizers(whole, OptimizerConfig()), 0, 4)
    steps(forgetful, Optimizers(forgetful, OptimizerConfig()), 0, 2)
    steps(forgetful, Optimizers(forgetful, OptimizerConfig()), 2, 4)
    assert not torch.equal(whole.output_weight, forgetful.output_weight)


def test_the_state_says_for_every_parameter_what_is_kept() -> None:
    module = network()
    steps(module, optimizers := Optimizers(module, OptimizerConfig()), 0, 1)
    state = optimizers.state()
    assert {"exp_avg", "exp_avg_sq", "step"} == {k.rpartition(".")[2] for k in state if "embedding" in k}
    assert {key.rpartition(".")[0] for key in state} == dict(module.named_parameters()).keys()


@pytest.mark.parametrize(
    "field, value",
    [
        ("learning_rate", 0.0),
        ("matrix_learning_rate", -1.0),
        ("beta1", 1.5),
        ("weight_decay", -0.1),
        ("warmup_steps", -1),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer\.{field} must"):
        OptimizerConfig(**{field: value})  # type: ignore[arg-type]
