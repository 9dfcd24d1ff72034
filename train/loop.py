"""Machinery: the training loop: accumulate, clip, step, log, evaluate, checkpoint, resume; for every objective.

Everything random is a function of (seed, what, counter), so where a run is, is a step number.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import FrameType
from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.artifacts.lease import Lease
from pipeline.errors import ConfigError, StoppedError
from pipeline.loading.order import Indices, Order, derive_seed, share_of
from pipeline.runtime.console import say
from train.checkpoint import Checkpoints, TrainerState
from train.config import TrainingConfig, TrainingExecution
from train.data import micro_batches
from train.launch import Launch, check_world
from train.objectives import Batch, M, Objective
from train.optim import Optimizers, learning_rate_factor
from train.record import Record


@dataclass(kw_only=True)
class Loop(Generic[M]):
    """One run: a network, an objective, and where it is."""

    launch: Launch
    objective: Objective[M]
    config: TrainingConfig
    max_steps: int
    execution: TrainingExecution
    module: M
    record: Record
    checkpoints: Checkpoints
    lease: Lease | None
    state: TrainerState = field(init=False)

    def run(self) -> dict[str, float]:
        """Train to the last step and return the final scores.

        Raises StoppedError, with a checkpoint saved, when a signal asks to stop, and ConfigError when the loss is
        not finite.
        """
        check_world(self.config.global_batch_size, self.launch.world_size)
        self.module.to(self.launch.accelerator.device)
        self._model = self.launch.accelerator.prepare_model(self.module)
        self._optimizers = Optimizers(self.module, self.config.optimizer)
        self._order = self.objective.order or Order(self.objective.samples, self.config.seed)
        self._restore()
        self._begun = time.monotonic() - self.state.seconds
        self._saved = time.monotonic()
        self.record.start(self.state.step, self.state.tokens)
        scores: dict[str, float] = {}
        with _stop_flag() as stop:
            while self.state.step < self.max_steps:
                self._step()
                if self._is_due(self.config.eval_steps) or self.state.step == self.max_steps:
                    scores = self._evaluate()
                self._checkpoint_if_due(stopping=self._any(stop.is_set))
        return scores or self._evaluate()

    # --- a step ----------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Do one optimizer step over one global batch."""
        state, size = self.state, self.config.global_batch_size
        mine = share_of(self._order.at(state.samples, size), self.launch.rank, self.launch.world_size)
        batches = [self._batch(part) for part in micro_batches(mine, self.execution.micro_batch_size)]
        targets = self._sum(sum(self.objective.targets(batch) for batch in batches))
        self._model.train()
        loss = torch.zeros((), device=self.launch.accelerator.device)
        for micro, batch in enumerate(batches):
            # Dropout takes its random numbers from torch's one generator, whose state no checkpoint holds: seeded for
            # each micro-batch, a resumed run drops what an unbroken one drops. By rank, so that processes differ.
            torch.manual_seed(derive_seed(self.config.seed, "dropout", state.step, micro, self.launch.rank))
            is_last = micro + 1 == len(batches)
            with nullcontext() if is_last else self.launch.accelerator.no_sync(self._model):
                part = self.objective.loss(self._model, batch)
                # Wanted is the mean over all targets of the global batch. A mean for each micro-batch would weigh a
                # target by how few others are in its micro-batch ("Fixing Gradient Accumulation", Hugging Face, 2024).
                # So sums are divided by the targets of all processes, and as DistributedDataParallel takes the mean
                # of the processes' gradients where their sum is meant, multiplied by the number of processes.
                self.launch.accelerator.backward(part * (self.launch.world_size / targets))
            loss += part.detach()
        self._finish_step(loss, int(targets), mine)

    def _finish_step(self, loss: Float[Tensor, ""], targets: int, mine: Indices) -> None:
        config, step = self.config.optimizer, self.state.step
        limit = config.max_grad_norm or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self.module.parameters(), limit)
        factor = learning_rate_factor(config, step, self.max_steps)
        self._optimizers.step(factor)
        self.state = self._advanced(targets)
        if self.execution.log_samples:
            self.record.samples_of(self.state.step, self._gather_samples(mine))
        if self._is_due(self.execution.logging_steps) or self.state.step == self.max_steps:
            mean = self._sum(loss.item()) / targets
            self._check_finite(mean, float(grad_norm))
            self.record.training(
                self.state.step,
                self.state.tokens,
                loss=mean,
                learning_rate=config.learning_rate * factor,
                grad_norm=float(grad_norm),
            )

    def _advanced(self, targets: int) -> TrainerState:
        old = self.state
        return TrainerState(
            step=old.step + 1,
            samples=old.samples + self.config.global_batch_size,
            tokens=old.tokens + targets,
            seconds=time.monotonic() - self._begun,
            domains=old.domains,
        )

    def _batch(self, samples: Indices) -> Batch:
        device = self.launch.accelerator.device
        return {name: tensor.to(device, non_blocking=True) for name, tensor in self.objective.batch(samples).items()}

    def _check_finite(self, loss: float, grad_norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise ConfigError(
                f"the loss is {loss} and the gradient's norm {grad_norm} at step {self.state.step}. Nothing of it was "
                "saved; lower optimizer.learning_rate and optimizer.matrix_learning_rate."
            )

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.state.step % every == 0

    def _evaluate(self) -> dict[str, float]:
        self._model.eval()
        with self.record.paused(), torch.inference_mode():
            scores = self.objective.evaluate(self.module)
            sample = self.objective.sample(self.module) if self.launch.is_main else None
        self.record.evaluation(self.state.step, scores, sample)
        return scores

    # --- checkpoints -----------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        found = self.checkpoints.load_newest()
        domain = self.launch.domain
        if found is None:
            self.state = TrainerState(step=0, samples=0, tokens=0, seconds=0.0, domains=(domain,))
            return
        state, model, optimizer = found
        self.module.load_state_dict(model)
        self._optimizers.load(optimizer)
        domains = state.domains if state.domains[-1] == domain else (*state.domains, domain)
        self.state = TrainerState(**{**vars(state), "domains": domains})
        if self.launch.is_main:
            say(f"going on from step {state.step} of {self.max_steps}")

    def _checkpoint_if_due(self, *, stopping: bool) -> None:
        """Save by steps, by minutes, or because somebody wants us to stop; the last step is published instead."""
        if self.state.step >= self.max_steps:
            return
        minutes = self.execution.save_minutes
        late = self._any(lambda: minutes > 0 and time.monotonic() - self._saved > 60 * minutes)
        if stopping or late or self._is_due(self.execution.save_steps):
            self._save()
        if stopping:
            raise StoppedError(
                f"stopped after step {self.state.step} of {self.max_steps}; a checkpoint is saved. "
                "Run the same command again to go on."
            )

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.launch.is_main:
            if not all(bool(p.isfinite().all()) for p in self.module.parameters()):
                self._check_finite(math.nan, math.nan)
            if self.lease is not None:
                self.lease.check()
            self.checkpoints.save(self.state, self.module.state_dict(), self._optimizers.state())
        self.launch.accelerator.wait_for_everyone()

    # --- between processes -----------------------------------------------------------------------------------

    def _sum(self, value: float) -> float:
        """Add a number up over the processes."""
        return sum_over(self.launch, value)

    def _any(self, flag: Callable[[], bool]) -> bool:
        """Tell whether any process says yes; all of them must ask."""
        return self._sum(float(flag())) > 0

    def _gather_samples(self, mine: Indices) -> list[int]:
        from accelerate.utils import gather_object

        return [int(sample) for sample in gather_object(mine.tolist())]


def sum_over(launch: Launch, value: float) -> float:
    """Add a number up over the processes; every process gets the sum."""
    if launch.world_size == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=launch.accelerator.device)
    return float(launch.accelerator.reduce(tensor, reduction="sum").item())


@dataclass
class _StopFlag:
    name: str | None = None

    def is_set(self) -> bool:
        return self.name is not None


@contextmanager
def _stop_flag() -> Iterator[_StopFlag]:
    """Turn SIGTERM and the first Ctrl-C into a flag that the loop looks at between steps."""
    flag = _StopFlag()

    def set_flag(signum: int, frame: FrameType | None) -> None:
        if flag.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        flag.name = signal.Signals(signum).name
        say(f"{flag.name}: finishing this step and saving a checkpoint")

    before = {number: signal.signal(number, set_flag) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
