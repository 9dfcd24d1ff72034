"""Machinery: small networks with weights large enough that every part of them shows in the logits."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from model.config import GPTConfig
from model.heads import CausalLM

Module = TypeVar("Module", bound=nn.Module)

TINY: dict[str, Any] = {"vocab_size": 61, "context_length": 24, "n_layer": 2, "n_head": 4, "n_embd": 32}


def randomise(module: Module, seed: int = 0) -> Module:
    """Draw every weight and bias, norms included, from a wide distribution."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter == 1))
    return module


@pytest.fixture
def tiny_config() -> Callable[..., GPTConfig]:
    return lambda **options: GPTConfig(**(TINY | options))


@pytest.fixture
def tiny_lm(tiny_config: Callable[..., GPTConfig]) -> Callable[..., CausalLM]:
    return lambda **options: randomise(CausalLM(tiny_config(**options))).eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(61, (3, 16), generator=torch.Generator().manual_seed(7))
