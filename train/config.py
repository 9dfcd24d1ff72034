"""Machinery: the settings that training stages share: what is wanted (in the id) and how to get it (never)."""

from dataclasses import dataclass, field
from math import ceil

from pipeline.errors import ConfigError
from train.launch import Precision
from train.optim import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long to train, from which seed, in which precision."""

    max_steps: int | None = None
    """optimizer steps; None: as many as `epochs` take"""
    epochs: float = 1.0
    """times every sample is seen, when max_steps is not given"""
    eval_steps: int = 100
    """an evaluation and a sample of text every so many steps; 0: only at the end"""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes in it"""
    seed: int = 0
    """of the weights, the order and dropout"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"max_steps must be at least 1, got {self.max_steps}.")
        if not self.epochs > 0:
            raise ConfigError(f"epochs must be positive, got {self.epochs}.")
        if self.eval_steps < 0:
            raise ConfigError(f"eval_steps must not be negative, got {self.eval_steps}.")

    @property
    def global_batch_size(self) -> int:
        """Samples in one optimizer step, over all processes."""
        raise NotImplementedError

    def steps(self, samples: int) -> int:
        """Return how many steps to do: as many as are asked for, else as the epochs take."""
        return self.max_steps if self.max_steps is not None else ceil(self.epochs * samples / self.global_batch_size)


@dataclass(frozen=True, kw_only=True)
class TrainingExecution:
    """What of it can move a rounding is written to the manifest as the determinism domain."""

    micro_batch_size: int = 16
    """samples in memory at once, per process"""
    threads: int | None = None
    """of the processor; None: all, shared by the processes of this machine"""
    logging_steps: int = 10
    """a line every so many steps"""
    save_steps: int = 0
    """a checkpoint every so many steps; 0: by time alone"""
    save_minutes: float = 5.0
    """a checkpoint every so many minutes too; 0: by steps alone"""
    save_total_limit: int = 2
    """checkpoints that are kept, the newest ones"""
    log_samples: bool = False
    """write which samples every step was made of to record/order.jsonl"""

    def __post_init__(self) -> None:
        for name in ("micro_batch_size", "logging_steps", "save_total_limit"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}.")
        for name in ("save_steps", "save_minutes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
