"""Machinery: optimizers by parameter group, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights follow their gradients."""

    name: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the matrices of the blocks and AdamW for the rest; adamw: AdamW for everything"""
    learning_rate: float = 3e-3
    """peak, for what AdamW moves"""
    matrix_learning_rate: float = 0.02
    """peak, for what Muon moves"""
    weight_decay: float = 0.1
    """of matrices; embeddings, norms and biases have none"""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient"""
    beta2: float = 0.95
    """AdamW's decay of the mean squared gradient"""
    momentum: float = 0.95
    """Muon's"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm; 0 leaves them"""
    schedule: Literal["wsd", "cosine"] = "wsd"
    """wsd: warmup, stable, linear decay; cosine: warmup, half a cosine"""
    warmup_steps: int = 20
    """steps to reach the peak"""
    decay_fraction: float = 0.4
    """of all steps: the length of wsd's decay"""
    min_lr_ratio: float = 0.0
    """learning rate at the end, as a share of the peak"""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "matrix_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"optimizer.{name} must be positive, got {getattr(self, name)}.")
        for name in ("beta1", "beta2", "momentum", "decay_fraction", "min_lr_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"optimizer.{name} must be between 0 and 1, got {getattr(self, name)}.")
        for name in ("weight_decay", "max_grad_norm", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimizer.{name} must not be negative, got {getattr(self, name)}.")


def learning_rate_factor(config: OptimizerConfig, step: int, max_steps: int) -> float:
    """Return the fraction of the peak learning rate at `step`, 0-based.

    wsd: Hu et al., MiniCPM, 2024; cosine: Loshchilov and Hutter, 2017.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
        falling = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    else:
        decay_steps = max(1, round(config.decay_fraction * max_steps))
        falling = min(1.0, (max_steps - step) / decay_steps)
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * falling


class Optimizers:
    """The optimizers of a network, stepped together."""

    def __init__(self, module: "nn.Module", config: OptimizerConfig) -> None:
        import torch

        self.config = config
        self.names: dict[torch.Tensor, str] = {p: name for name, p in module.named_parameters()}
        matrices, decayed, rest = _groups(module, muon=config.name == "muon")
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        self._peaks: list[tuple[torch.optim.Optimizer, float]] = [(adamw, config.learning_rate)]
        # Muon (Jordan et al. 2024): the momentum of a matrix is made nearly orthogonal, by Newton-Schulz steps, so that
        # a step moves all directions alike and not a few of them alone. That is meant for matrices from channels to
        # channels: an embedding's rows are looked up one at a time, and it stays with AdamW, as do head and vectors.
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=config.matrix_learning_rate, weight_decay=config.weight_decay, momentum=config.momentum
            )
            self._peaks.append((muon, config.matrix_learning_rate))

    def step(self, factor: float) -> None:
        """Move the weights with `factor` times the peak learning rates, and forget the gradients."""
        for optimizer, peak in self._peaks:
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> "dict[str, torch.Tensor]":
        """Return every state tensor by `parameter name.state name`."""
        return {f"{self.names[p]}.{key}": value for p, key, value in self._entries()}

    def load(self, tensors: "dict[str, torch.Tensor]") -> None:
        """Put back what `state` returned, bit for bit."""
        for optimizer, _ in self._peaks:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = self.names[parameter]
                    found = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.rpartition(".")[0] == name}
                    # The fused AdamW keeps its step count beside the weights too.
                    optimizer.state[parameter] = {k: v.to(parameter.device, copy=True) for k, v in found.items()}

    def _entries(self) -> "Iterator[tuple[torch.Tensor, str, torch.Tensor]]":
        import torch

        for optimizer, _ in self._peaks:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    yield parameter, key, torch.as_tensor(value)


def _groups(module: "nn.Module", *, muon: bool) -> "tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]":
    """Sort parameters: matrices of the blocks (for Muon), other matrices that decay, and the rest that does not."""
    from torch import nn

    embeddings = {m.weight for m in module.modules() if isinstance(m, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2 or parameter in embeddings:
            rest.append(parameter)
        elif muon and ".blocks." in f".{name}":
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    return matrices, decayed, rest
