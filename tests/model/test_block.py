"""The mlp and the block compute their formulas."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.block import MLP, Block, SwiGLU, build_mlp, gelu, relu2
from model.config import GPTConfig

Config = Callable[..., GPTConfig]
MLPS: list[dict[str, Any]] = [{"mlp": "swiglu"}, {"mlp": "relu2"}, {"mlp": "gelu", "bias": True}]


def weigh(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return module


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))


def test_gelu_is_the_formula_of_gpt2() -> None:
    for x in (-3.0, -0.5, 0.0, 0.7, 2.0):
        wanted = 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        assert float(gelu(torch.tensor(x))) == pytest.approx(wanted, abs=1e-6)


def test_relu2_squares_what_is_positive() -> None:
    assert relu2(torch.tensor([-2.0, 0.0, 0.5, 3.0])).tolist() == [0.0, 0.0, 0.25, 9.0]


def test_an_mlp_worked_by_hand(tiny_config: Config) -> None:
    mlp = MLP(tiny_config(n_head=1, n_embd=2, intermediate_size=3, mlp="relu2"), relu2)
    with torch.no_grad():
        mlp.up.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        mlp.down.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]]))
    # up: 2, -1, 1; squared where positive: 4, 0, 1
    assert mlp(torch.tensor([[[2.0, -1.0]]])).tolist() == [[[5.0, 2.0]]]


def test_swiglu_gates_one_projection_by_the_silu_of_the_other(tiny_config: Config, x: Tensor) -> None:
    mlp = weigh(SwiGLU(tiny_config(intermediate_size=48)))
    gate, up = mlp.get_parameter("gate_up.weight").split(48)
    wanted = F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), mlp.get_parameter("down.weight"))
    torch.testing.assert_close(mlp(x), wanted)


@pytest.mark.parametrize("options", MLPS)
def test_the_mlp_is_the_one_that_the_config_asks_for(options: dict[str, Any], tiny_config: Config) -> None:
    mlp = build_mlp(tiny_config(**options, intermediate_size=40))
    assert isinstance(mlp, SwiGLU if options["mlp"] == "swiglu" else MLP)
    assert mlp.down.weight.shape == (32, 40) and (mlp.down.bias is not None) == options.get("bias", False)
    if isinstance(mlp, MLP):
        assert mlp.activation is {"relu2": relu2, "gelu": gelu}[options["mlp"]]


@pytest.mark.parametrize("options", MLPS)
def test_a_block_adds_attention_and_then_the_mlp(options: dict[str, Any], tiny_config: Config, x: Tensor) -> None:
    block = weigh(Block(tiny_config(**options), 0))
    assert isinstance(block, Block)
    after_attention = x + block.attention(block.norm_1(x), None)
    torch.testing.assert_close(block(x, None), after_attention + block.mlp(block.norm_2(after_attention)))


def test_a_block_whose_outputs_are_zero_changes_nothing(tiny_config: Config, x: Tensor) -> None:
    block = weigh(Block(tiny_config(), 0))
    assert isinstance(block, Block) and not torch.equal(block(x, None), x)
    nn.init.zeros_(block.attention.output.weight)
    nn.init.zeros_(block.mlp.down.weight)
    assert torch.equal(block(x, None), x)


def test_dropout_works_in_training_only(tiny_config: Config, x: Tensor) -> None:
    block = weigh(Block(tiny_config(dropout=0.5), 0))
    torch.manual_seed(0)
    assert not torch.equal(block(x, None), block(x, None))
    block.eval()
    assert torch.equal(block(x, None), block(x, None))
