"""Machinery: one block of the network, attention then mlp, each normalised before and added after.

Axes: B batch, T tokens, C channels.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.attention import CausalSelfAttention, Mask, Rotation
from model.cache import KeyValueCache
from model.config import Architecture
from model.norm import build_norm


def gelu(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Apply GPT-2's GELU, the tanh form (Hendrycks and Gimpel, 2016)."""
    return F.gelu(x, approximate="tanh")


def relu2(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Square the positive part (Primer, So et al. 2021)."""
    return F.relu(x).square()


class MLP(nn.Module):
    """Project up to intermediate_size channels, apply the activation, project down."""

    def __init__(self, config: Architecture, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(config.n_embd, config.intermediate_channels, bias=config.bias)
        self.down = nn.Linear(config.intermediate_channels, config.n_embd, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


class SwiGLU(nn.Module):
    """Project up twice, multiply one projection by the SiLU of the other, project down (Shazeer, 2020)."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.n_embd, 2 * config.intermediate_channels, bias=config.bias)
        self.down = nn.Linear(config.intermediate_channels, config.n_embd, bias=config.bias)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y


def build_mlp(config: Architecture) -> MLP | SwiGLU:
    """Build the mlp the config asks for."""
    if config.mlp == "swiglu":
        return SwiGLU(config)
    return MLP(config, {"gelu": gelu, "relu2": relu2}[config.mlp])


class Block(nn.Module):
    """Add to the stream what attention and then the mlp make of it."""

    def __init__(self, config: Architecture, layer: int) -> None:
        super().__init__()
        self.norm_1 = build_norm(config)
        self.attention = CausalSelfAttention(config, layer)
        self.norm_2 = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        rotation: Rotation | None,
        cache: KeyValueCache | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B T C"]:
        x = x + self.dropout(self.attention(self.norm_1(x), rotation, cache, mask))
        y: Tensor = x + self.dropout(self.mlp(self.norm_2(x)))
        return y
