"""Every way to launch training does what it says: the same order, the same gradient, the right exit code, no orphan."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store

ROOT = Path(__file__).parent.parent
PYTHON = [sys.executable]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
TWO = [*ACCELERATE, "--multi_gpu", "--num_processes", "2"]
SIZE = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32"]
SIZE += ["--global-batch-tokens", "256", "--eval-steps", "1000", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def store(tiny: Any, tmp_path: Path) -> Callable[[str], Path]:
    """Make a store that has what tiny's pretraining needs, and nothing of what comes after."""

    def copy(name: str) -> Path:
        for kind in ("corpus", "tokenizer", "shards"):
            shutil.copytree(tiny.store.root / kind, tmp_path / name / kind)
        return tmp_path / name

    return copy


@dataclass(frozen=True)
class Launched:
    """A launch that ended: its exit code, what it said, and what it published."""

    code: int
    said: str
    model: Artifact | None

    def order(self) -> list[dict[str, Any]]:
        assert self.model is not None, self.said
        return [json.loads(line) for line in (self.model.record / "order.jsonl").read_text().splitlines()]

    def last_loss(self) -> float:
        assert self.model is not None, self.said
        rows = [json.loads(line) for line in (self.model.record / "metrics.jsonl").read_text().splitlines()]
        return float([row["loss"] for row in rows if "loss" in row][-1])


def environment(store: Path) -> dict[str, str]:
    return {**os.environ, "CAIRN_STORE": str(store), "PYTHONPATH": str(ROOT)}


def launch(store: Path, launcher: list[str], *arguments: str) -> Launched:
    done = subprocess.run(
        [*launcher, *arguments], cwd=ROOT, env=environment(store), capture_output=True, text=True, timeout=120
    )
    models = Store(store).folders("model")
    return Launched(done.returncode, done.stdout + done.stderr, Store(store).open(models[0]) if models else None)


def pretrain(tiny: Any, *more: str) -> list[str]:
    return ["-m", "train.pretrain", "--shards", tiny["shards"].reference, *SIZE, *more]


@pytest.mark.slow
def test_one_and_two_processes_see_the_same_samples_and_come_to_the_same_loss(
    tiny: Any, store: Callable[[str], Path]
) -> None:
    arguments = pretrain(tiny, "--max-steps", "12", "--log-samples")
    plain = launch(store("plain"), PYTHON, *arguments)
    single = launch(store("single"), ACCELERATE, *arguments)
    double = launch(store("double"), TWO, *arguments)
    assert [run.code for run in (plain, single, double)] == [0, 0, 0], plain.said + single.said + double.said
    assert plain.model is not None and single.model is not None and double.model is not None
    assert plain.model.id == single.model.id == double.model.id, "how it is launched is not in the id"
    assert len(plain.order()) == 12 and plain.order() == single.order() == double.order()
    assert plain.model.digest == single.model.digest, "one process is one process"
    worlds = [run.model.manifest.determinism.domain["world_size"] for run in (plain, single, double)]  # type: ignore[union-attr]
    assert worlds == [1, 1, 2]
    assert double.last_loss() == pytest.approx(plain.last_loss(), rel=1e-3)
    assert plain.model.facts["tokens"] == double.model.facts["tokens"] == 12 * 256


GRADIENTS = '''
"""Dump the gradient of the first global batch of eight samples with unequal numbers of targets."""

import sys
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.config import GPTConfig
from model.gpt import init_weights
from model.heads import CausalLM
from train.checkpoint import Checkpoints
from train.data import count_targets
from train.config import TrainingExecution
from train.launch import launch
from train.finetune import FinetuneConfig
from train.loop import Loop
from train.objectives import Objective, next_token_loss
from train.record import Record

folder = Path(sys.argv[1])
generator = torch.Generator().manual_seed(3)
tokens = torch.randint(31, (40, 13), generator=generator)
counts = torch.randint(1, 13, (40, 1), generator=generator)
labels = tokens[:, 1:].masked_fill(torch.arange(12) >= counts, -100)
started = launch(precision="fp32", threads=1, micro_batch_size=1, program="train.pretrain")
objective = Objective(
    samples=40,
    batch=lambda chosen: {"input_ids": tokens[chosen.tolist(), :-1], "labels": labels[chosen.tolist()]},
    targets=count_targets,
    loss=lambda module, batch: next_token_loss(module(batch["input_ids"]), batch["labels"]),
    evaluate=lambda module: {},
)


class Enough(Exception):
    pass


class FirstGradient(Loop):
    def _finish_step(self, loss, targets, mine):
        if self.launch.is_main:
            gradients = {name: p.grad for name, p in self.module.named_parameters()}
            save_file(gradients, folder / str(self.execution.micro_batch_size))
        raise Enough


for micro_batch_size in map(int, sys.argv[2:]):
    module = CausalLM(GPTConfig(vocab_size=31, context_length=12, n_layer=2, n_head=2, n_embd=32))
    init_weights(module, 5)
    loop = FirstGradient(
        launch=started,
        objective=objective,
        config=FinetuneConfig(global_batch_examples=8, seed=11),
        max_steps=1,
        execution=TrainingExecution(micro_batch_size=micro_batch_size, threads=1),
        module=module,
        record=Record(folder, 1, active=False),
        checkpoints=Checkpoints(folder, keep=1),
        lease=None,
    )
    with suppress(Enough):
        loop.run()
started.accelerator.wait_for_everyone()
started.accelerator.end_training()
'''


@pytest.mark.slow
def test_the_gradient_of_a_global_batch_is_the_same_over_cuts_and_processes(tmp_path: Path) -> None:
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    found = {}
    for name, launcher, sizes in (("one", PYTHON, "8 4 2 1"), ("two", TWO, "4 2 1")):
        (tmp_path / name).mkdir()
        ended = launch(tmp_path, launcher, str(script), str(tmp_path / name), *sizes.split())
        assert ended.code == 0, ended.said
        found |= {f"{name} {size}": load_file(tmp_path / name / size) for size in sizes.split()}
    whole = found["one 8"]
    norm = sum(float(gradient.norm()) ** 2 for gradient in whole.values()) ** 0.5
    assert norm > 0 and len(found) == 7
    for name, gradients in found.items():
        assert gradients.keys() == whole.keys()
        apart = sum(float((gradients[key] - whole[key]).norm()) ** 2 for key in gradients) ** 0.5
        assert apart / norm < 1e-5, name


def test_a_launch_that_would_run_one_process_is_refused_with_the_right_command(
    tiny: Any, store: Callable[[str], Path]
) -> None:
    ended = launch(store("store"), [*ACCELERATE, "--cpu", "--num_processes", "2"], *pretrain(tiny, "--max-steps", "1"))
    assert ended.code != 0 and ended.model is None
    assert "Use `accelerate launch --multi_gpu --num_processes N -m train.pretrain …`" in ended.said


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Write tiny's steps up to a pretraining of a few steps."""
    path = tmp_path / "few.toml"
    path.write_text(
        '[corpus]\ncards = ["tiny_stories"]\n'
        '[tokenizer]\ninputs = { corpus = "corpus" }\nvocab_size = 1024\n'
        '[shards]\ninputs = { corpus = "corpus", tokenizer = "tokenizer" }\n'
        '[pretrain]\ninputs = { shards = "shards" }\nmax_steps = 3\nglobal_batch_tokens = 256\nthreads = 1\n'
        'precision = "fp32"\nmodel = { context_length = 32, n_layer = 1, n_head = 2, n_embd = 32 }\n'
    )
    return path


LAUNCH = f"{sys.executable} -m accelerate.commands.launch"


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher, fields, code, state",
    [
        (f"{LAUNCH} --cpu --num_processes 2", [], 2, "failed"),
        (LAUNCH, ["--pretrain.optimizer.learning-rate", "1e30", "--pretrain.optimizer.name", "adamw"], 78, "failed"),
        (f"{LAUNCH} --multi_gpu --num_processes 2", ["--pretrain.global-batch-tokens", "32"], 78, "failed"),
    ],
    ids=["refused", "not finite", "too few samples for two"],
)
def test_run_passes_on_the_exit_code_that_the_launcher_swallows(
    launcher: str, fields: list[str], code: int, state: str, recipe: Path, store: Callable[[str], Path]
) -> None:
    where = store("store")
    ended = launch(where, PYTHON, "-m", "pipeline.run", str(recipe), "--launch", launcher, *fields)
    assert ended.code == code, ended.said
    (status,) = (json.loads(path.read_text()) for path in where.glob("runs/*/status.json"))
    assert (status["exit_code"], status["state"]) == (code, state)
    assert "the step pretrain failed" in ended.said and ended.model is None


def test_run_launches_the_steps_that_train(recipe: Path, store: Callable[[str], Path]) -> None:
    ended = launch(store("store"), PYTHON, "-m", "pipeline.run", str(recipe), "--launch", LAUNCH)
    assert ended.code == 0, ended.said
    assert ended.model is not None and ended.model.facts["steps"] == 3
    assert f"$ {LAUNCH} -m train.pretrain" in ended.said


def wait_until(holds: Callable[[], bool], seconds: float, said: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_stopped_launcher_leaves_no_orphan_and_a_checkpoint(
    tiny: Any, store: Callable[[str], Path], tmp_path: Path
) -> None:
    where, log = store("store"), tmp_path / "log"
    with log.open("wb") as file:
        command = [*ACCELERATE, *pretrain(tiny, "--max-steps", "3000")]
        launcher = subprocess.Popen(command, cwd=ROOT, env=environment(where), stdout=file, stderr=file)
    wait_until(lambda: "step   10/3000" in log.read_text(), 60, log.read_text)
    (trainer,) = psutil.Process(launcher.pid).children()
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(30)
    wait_until(lambda: not alive(trainer), 30, log.read_text)
    assert "SIGTERM: finishing this step and saving a checkpoint" in log.read_text()
    assert len(list(where.glob("runs/*/checkpoints/step-*"))) == 1


@pytest.mark.slow
def test_a_stopped_run_waits_for_what_its_launcher_left_and_says_75(
    recipe: Path, store: Callable[[str], Path], tmp_path: Path
) -> None:
    where, log = store("store"), tmp_path / "log"
    with log.open("wb") as file:
        command = [*PYTHON, "-m", "pipeline.run", str(recipe), "--launch", LAUNCH, "--pretrain.max-steps", "3000"]
        run = subprocess.Popen(command, cwd=ROOT, env=environment(where), stdout=file, stderr=file)
    wait_until(lambda: "step   10/3000" in log.read_text(), 60, log.read_text)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 75, log.read_text()
    (status,) = (json.loads(path.read_text()) for path in where.glob("runs/*/status.json"))
    assert status["state"] == "stopped" and len(list(where.glob("runs/*/checkpoints/step-*"))) == 1


@pytest.mark.slow
def test_a_killed_run_takes_its_launcher_and_the_trainer_along(
    recipe: Path, store: Callable[[str], Path], tmp_path: Path
) -> None:
    where, log = store("store"), tmp_path / "log"
    with log.open("wb") as file:
        command = [*PYTHON, "-m", "pipeline.run", str(recipe), "--launch", LAUNCH, "--pretrain.max-steps", "3000"]
        run = subprocess.Popen(command, cwd=ROOT, env=environment(where), stdout=file, stderr=file)
    wait_until(lambda: "step   10/3000" in log.read_text(), 60, log.read_text)
    started = psutil.Process(run.pid).children(recursive=True)
    assert len(started) >= 2
    run.kill()
    run.wait(10)
    wait_until(lambda: not any(map(alive, started)), 60, log.read_text)


def test_the_exit_code_of_an_earlier_attempt_is_not_that_of_a_launcher_that_cannot_start(
    recipe: Path, store: Callable[[str], Path]
) -> None:
    where = store("store")
    arguments = ("-m", "pipeline.run", str(recipe))
    (plan,) = (
        p for p in json.loads(launch(where, PYTHON, *arguments, "--plan", "--json").said) if p["step"] == "pretrain"
    )
    old = where / "runs" / plan["id"] / "status.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"state": "stopped", "exit_code": 75, "message": ""}')
    ended = launch(where, PYTHON, *arguments, "--launch", f"{sys.executable} -c 'raise SystemExit(3)'")
    assert ended.code == 3, ended.said
