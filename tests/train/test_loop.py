"""The loop: resuming changes nothing, nor does how a global batch is cut; and it knows when to stop."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.artifacts.lease import LEASE, Lease
from pipeline.errors import ConfigError, StoppedError
from pipeline.loading.order import Indices, Order
from train.loop import Loop
from train.objectives import Batch, next_token_loss
from train.optim import OptimizerConfig

Build = Callable[..., Loop]
BOTH = [OptimizerConfig(warmup_steps=2, learning_rate=1e-2, name=name) for name in ("muon", "adamw")]


def end_of(loop: Loop) -> dict[str, Tensor]:
    """Return everything that a run has come to: the weights and the optimizers' state."""
    state = {f"model.{name}": tensor.clone() for name, tensor in loop.module.state_dict().items()}
    return state | {f"optimizer.{name}": tensor.clone() for name, tensor in loop._optimizers.state().items()}


def assert_same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def stopped_at(loop: Loop, step: int, signum: int = signal.SIGTERM) -> Loop:
    """Send the running loop a signal in the middle of a step; it must stop at the end of that step."""
    inner = loop.objective.batch

    def batch(samples: Indices) -> Batch:
        if loop.state.step + 1 == step:
            os.kill(os.getpid(), signum)
        return inner(samples)

    loop.objective = replace(loop.objective, batch=batch)
    with pytest.raises(StoppedError, match=f"stopped after step {step} of"):
        loop.run()
    return loop


@pytest.mark.parametrize("optimizer", BOTH, ids=["muon", "adamw"])
@pytest.mark.parametrize("step", [1, 5])
def test_a_stopped_and_resumed_run_ends_in_the_same_bits(loop: Build, optimizer: OptimizerConfig, step: int) -> None:
    whole = loop("whole", optimizer=optimizer)
    whole.run()
    stopped_at(loop("cut", optimizer=optimizer), step)
    again = loop("cut", optimizer=optimizer)
    again.run()
    assert_same_bits(end_of(again), end_of(whole))
    assert (again.state.step, again.state.samples, again.state.tokens) == (8, 64, whole.state.tokens)


def test_a_run_stopped_after_every_step_ends_in_the_same_bits(loop: Build) -> None:
    whole = loop("whole", max_steps=5)
    whole.run()
    for step in range(1, 5):
        stopped_at(loop("cut", max_steps=5), step)
    last = loop("cut", max_steps=5)
    last.run()
    assert_same_bits(end_of(last), end_of(whole))


def test_dropout_is_at_work_in_these_runs(loop: Build) -> None:
    with_dropout, without = loop("with"), loop("without", dropout=0.0)
    with_dropout.run()
    without.run()
    assert not torch.equal(with_dropout.module.output_weight, without.module.output_weight)


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bit(loop: Build, capfd: pytest.CaptureFixture[str]) -> None:
    whole = loop("whole")
    whole.run()
    stopped_at(loop("cut", save_steps=2), 6)
    newest = loop("cut").checkpoints.folder / "step-00000006" / "optimizer.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = loop("cut")
    again.run()
    assert_same_bits(end_of(again), end_of(whole))
    assert "step-00000006 is damaged (optimizer.safetensors); using the one before it" in capfd.readouterr().err


def gradients_of(loop: Loop) -> Tensor:
    """Return the gradient of the first global batch, before it is clipped."""
    found: list[Tensor] = []

    def keep(*_: Any) -> None:
        found.append(torch.cat([p.grad.flatten().clone() for p in loop.module.parameters() if p.grad is not None]))
        raise StoppedError("enough")

    loop._finish_step = keep  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match="enough"):
        loop.run()
    return found[0]


def relative(left: Tensor, right: Tensor) -> float:
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 4])
def test_the_gradient_of_a_global_batch_does_not_depend_on_how_it_is_cut(loop: Build, micro_batch_size: int) -> None:
    whole = gradients_of(loop("whole", dropout=0.0, micro_batch_size=8))
    cut = gradients_of(loop("cut", dropout=0.0, micro_batch_size=micro_batch_size))
    assert 0 < float(whole.norm()) and relative(cut, whole) < 1e-5


def test_the_gradient_is_that_of_the_mean_over_all_targets_of_the_batch(loop: Build) -> None:
    cut = loop(dropout=0.0, micro_batch_size=3)
    found = gradients_of(cut)
    batch = cut.objective.batch(Order(cut.objective.samples, 11).at(0, 8))
    counts = (batch["labels"] >= 0).sum(dim=1)
    assert len(set(counts.tolist())) > 2, "the samples must have different numbers of targets"
    cut.module.zero_grad()
    (next_token_loss(cut.module(batch["input_ids"]), batch["labels"]) / counts.sum()).backward()
    expected = torch.cat([p.grad.flatten() for p in cut.module.parameters() if p.grad is not None])
    assert relative(found, expected) < 1e-5


def metrics(loop: Loop) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (loop.record.folder / "metrics.jsonl").read_text().splitlines()]


def test_the_logged_loss_is_the_mean_over_the_targets(loop: Build) -> None:
    run = loop(dropout=0.0, max_steps=1)
    batch = run.objective.batch(Order(run.objective.samples, 11).at(0, 8))
    with torch.no_grad():
        loss = next_token_loss(run.module(batch["input_ids"]), batch["labels"]) / (batch["labels"] >= 0).sum()
    run.run()
    assert metrics(run)[0]["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_run_learns(loop: Build) -> None:
    run = loop(dropout=0.0, max_steps=60)
    run.run()
    losses = [row["loss"] for row in metrics(run) if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]


def test_the_order_that_is_logged_is_the_order_of_the_seed(loop: Build) -> None:
    run = loop(log_samples=True, max_steps=6)
    run.run()
    logged = [json.loads(line) for line in (run.record.folder / "order.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [1, 2, 3, 4, 5, 6]
    samples = [sample for row in logged for sample in row["samples"]]
    assert samples == Order(run.objective.samples, 11).at(0, 48).tolist()
    assert sorted(samples[:40]) == list(range(40)), "each sample once in an epoch"


def test_a_resumed_run_logs_each_step_once(loop: Build) -> None:
    cut = loop(log_samples=True, save_steps=2)
    cut.objective = with_failure(cut, step=5)
    with pytest.raises(RuntimeError, match="cut off"):
        cut.run()
    again = loop(log_samples=True)
    again.run()
    logged = [json.loads(line) for line in (again.record.folder / "order.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == list(range(1, 9))
    assert [row["step"] for row in metrics(again) if "loss" in row] == list(range(1, 9))


def with_failure(loop: Loop, *, step: int) -> Any:
    """Return the loop's objective, which dies in the step after `step` of them are logged."""
    inner = loop.objective.batch

    def batch(samples: Indices) -> Batch:
        if loop.state.step == step:
            raise RuntimeError("cut off")
        return inner(samples)

    return replace(loop.objective, batch=batch)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(loop: Build, value: float) -> None:
    run = loop(save_steps=1, logging_steps=100)
    inner = run.objective.loss

    def loss(module: Any, batch: Batch) -> Tensor:
        return inner(module, batch) * (value if run.state.step == 3 else 1.0)

    run.objective = replace(run.objective, loss=loss)
    with pytest.raises(ConfigError, match=r"at step 4\. Nothing of it was saved; lower optimizer\.learning_rate"):
        run.run()
    assert [path.name for path in sorted(run.checkpoints.folder.iterdir())] == ["step-00000002", "step-00000003"]


def test_who_lost_the_lease_stops_without_writing(loop: Build, tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path / "run")
    run = loop(lease=lease, save_steps=2)
    inner = run.objective.batch

    def batch(samples: Indices) -> Batch:
        if run.state.step == 3:
            page = json.loads((tmp_path / "run" / LEASE).read_text())
            (tmp_path / "run" / LEASE).write_text(json.dumps({**page, "uuid": "another's"}))
        return inner(samples)

    run.objective = replace(run.objective, batch=batch)
    with pytest.raises(StoppedError, match="taken over by another process"):
        run.run()
    assert [path.name for path in run.checkpoints.folder.iterdir()] == ["step-00000002"]
    lease.release()
    assert (tmp_path / "run" / LEASE).exists(), "the other's lease is not ours to give back"


def test_a_second_interrupt_does_not_wait_for_the_step(loop: Build) -> None:
    run = loop()
    inner = run.objective.batch

    def batch(samples: Indices) -> Batch:
        if run.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return inner(samples)

    run.objective = replace(run.objective, batch=batch)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.checkpoints.load_newest() is None


def test_the_signals_are_the_callers_again_after_a_run(loop: Build) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    loop(max_steps=1).run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_that_moved_to_another_domain_lists_both(loop: Build) -> None:
    stopped_at(loop(), 2)
    again = loop()
    moved = {**again.launch.domain, "threads": 99}
    again.launch = type(again.launch)(again.launch.accelerator, moved)
    again.run()
    assert [domain["threads"] for domain in again.state.domains] == [1, 99]


def test_a_global_batch_smaller_than_the_processes_is_refused() -> None:
    from train.launch import check_world

    check_world(2, 2)
    with pytest.raises(ConfigError, match="cannot be shared by 3 processes"):
        check_world(2, 3)
