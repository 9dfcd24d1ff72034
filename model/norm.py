"""Machinery: the norms a config can ask for, RMSNorm and LayerNorm."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from model.config import Architecture


class RMSNorm(nn.Module):
    """Divide by the root mean square of the last axis, then scale (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        weight = self.weight.to(x.dtype)
        if x.device.type != "cpu":
            return F.rms_norm(x, weight.shape, weight, self.eps)
        normed: Tensor = _RMSNormOnCPU.apply(x, weight, self.eps)  # type: ignore[no-untyped-call]
        return normed


class _RMSNormOnCPU(torch.autograd.Function):
    """Do what F.rms_norm does, whose backward torch composes on CPU at two to three times the cost.

    With r = 1 / sqrt(mean(x²) + eps) and n = x r:   y = n w,   dw = Σ g n,   dx = r (g w - n mean(g w n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*B C"], weight: Float[Tensor, " C"], eps: float) -> Float[Tensor, "*B C"]:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, r, weight)
        y: Tensor = (x * r).mul_(weight)
        return y

    @staticmethod
    def backward(ctx: Any, g: Float[Tensor, "*B C"]) -> tuple[Float[Tensor, "*B C"], Float[Tensor, " C"], None]:
        x, r, weight = ctx.saved_tensors
        gn = (g * x).mul_(r)
        mean = (gn @ weight).unsqueeze(-1).div_(x.shape[-1])
        dx = (g * weight).sub_((x * r).mul_(mean)).mul_(r)
        return dx, gn.flatten(0, -2).sum(0), None


def build_norm(config: Architecture) -> nn.Module:
    """Build the norm over the channels that the config asks for."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, config.norm_eps)
    return nn.LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
