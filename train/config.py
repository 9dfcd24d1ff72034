"""Machinery: how a network is trained: device, threads, micro-batch, logging, checkpoints; never in an id."""

from dataclasses import dataclass

from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainingExecution:
    """What of it can move a rounding is written to the manifest as the determinism domain."""

    micro_batch_size: int = 16
    """samples in memory at once, per process"""
    threads: int | None = None
    """of the processor; None: all, shared by the processes of this machine"""
    log_steps: int = 10
    """a line every so many steps"""
    checkpoint_steps: int = 0
    """a checkpoint every so many steps; 0: by time alone"""
    checkpoint_minutes: float = 5.0
    """a checkpoint every so many minutes; 0: by steps alone"""
    keep_checkpoints: int = 2
    """newest checkpoints that stay"""
    log_samples: bool = False
    """write which samples every step was made of to record/order.jsonl"""

    def __post_init__(self) -> None:
        for name in ("micro_batch_size", "log_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}.")
        for name in ("checkpoint_steps", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}.")
