"""Killed, stopped, interrupted: nothing half-written is ever listed, and the same command ends in the same bytes."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from pipeline.artifacts.lease import Lease
from pipeline.artifacts.store import Store
from pipeline.errors import StoppedError

ROOT = Path(__file__).parent.parent
SMALL = ["--model.context-length", "32", "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "32"]
SMALL += ["--global-batch-tokens", "256", "--threads", "1", "--model.dropout", "0.1", "--eval-steps", "1000"]
STEPS = 4000
"""more than any test here waits for"""


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """The program tests/faults.py as a module; tests/ is no package."""
    spec = importlib.util.spec_from_file_location("faults", ROOT / "tests" / "faults.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["faults"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_random_moments_ends_in_the_bytes_of_an_undisturbed_one(
    faults: ModuleType, tiny: Any, tmp_path: Path
) -> None:
    expected = faults.digests(tiny.store.root)
    assert len(expected) == 11
    kills = list(faults.torment(tmp_path, expected, kills=3, seed=2))  # raises where something is not as it should be
    assert len(kills) == 3 and len({kill.step for kill in kills}) > 1, kills


class Started:
    """A program that runs, and what it has said so far."""

    def __init__(self, folder: Path, store: Path, *arguments: str) -> None:
        self.log = folder / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env={**os.environ, "CAIRN_STORE": str(store)},
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 120.0) -> None:
        """Wait until the program has said `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.said():
            assert self.process.poll() is None, f"ended with {self.process.returncode} first: {self.said()}"
            assert time.monotonic() < deadline, f"{text!r} was not said: {self.said()}"
            time.sleep(0.02)

    def end(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start programs; what is left of them at the end of the test is killed."""
    programs: list[Started] = []

    def start(store: Path, *arguments: str) -> Started:
        programs.append(Started(tmp_path, store, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@pytest.fixture
def with_shards(tiny: Any, tmp_path: Path) -> Callable[[str], Path]:
    """Make a store that has what tiny's pretraining needs, and nothing of what comes after."""
    return lambda name: with_shards_in(tmp_path / name, tiny)


def with_shards_in(store: Path, tiny: Any) -> Path:
    for kind in ("corpus", "tokenizer", "shards"):
        shutil.copytree(tiny.store.root / kind, store / kind)
    return store


def pretrain(tiny: Any, *arguments: str) -> list[str]:
    return ["-m", "train.pretrain", "--shards", tiny["shards"].reference, *SMALL, *arguments]


def model_in(store: Path) -> Any:
    found = Store(store).folders("model")
    return Store(store).open(found[0]) if found else None


CUT = ["--max-steps", "200", "--optimizer.name", "adamw"]


@pytest.fixture(scope="module")
def calm(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    store = with_shards_in(folder / "store", tiny)
    assert Started(folder, store, *pretrain(tiny, *CUT)).end() == 0
    return str(model_in(store).digest)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_training_saves_exits_75_and_goes_on_to_the_same_digest(
    number: signal.Signals, calm: str, tiny: Any, with_shards: Callable[[str], Path], started: Callable[..., Started]
) -> None:
    command, store = pretrain(tiny, *CUT), with_shards("store")
    cut = started(store, *command)
    cut.wait_for("step  10/200")
    cut.process.send_signal(number)
    assert cut.end() == 75, cut.said()
    assert f"{number.name}: finishing this step and saving a checkpoint" in cut.said()
    (status,) = (json.loads(path.read_text()) for path in store.glob("runs/*/status.json"))
    assert (status["state"], status["exit_code"]) == ("stopped", 75)
    assert list(store.glob("runs/*/checkpoints/step-*")) and model_in(store) is None
    again = started(store, *command)
    assert again.end() == 0
    assert "going on from step" in again.said()
    assert model_in(store).digest == calm
    assert list((store / "runs").iterdir()) == [], "the work of a published run is not kept"


def test_killing_the_run_alone_ends_its_step_and_the_same_command_completes(
    tiny: Any, with_shards: Callable[[str], Path], started: Callable[..., Started], tmp_path: Path
) -> None:
    store = with_shards("store")
    recipe = tmp_path / "two.toml"
    recipe.write_text(
        '[corpus]\ncards = ["tiny_stories"]\n'
        '[tokenizer]\ninputs = { corpus = "corpus" }\nvocab_size = 1024\n'
        '[shards]\ninputs = { corpus = "corpus", tokenizer = "tokenizer" }\n'
        '[pretrain]\ninputs = { shards = "shards" }\nmax_steps = 300\nglobal_batch_tokens = 256\nthreads = 1\n'
        "model = { context_length = 32, n_layer = 1, n_head = 2, n_embd = 32 }\n"
    )
    run = started(store, "-m", "pipeline.run", str(recipe))
    run.wait_for("step  10/300")
    (child,) = psutil.Process(run.process.pid).children()
    run.process.kill()
    run.end()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    again = started(store, "-m", "pipeline.run", str(recipe))
    assert again.end() == 0, again.said()
    assert "pretrain: resume (an unfinished run has checkpoints)" in again.said()
    assert model_in(store).facts["steps"] == 300


def test_the_workers_of_a_killed_stage_end(started: Callable[..., Started], tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(
        "import sys, time\nfrom pipeline.executors.executor import Workers, map_parts\n"
        "def sleep(seconds):\n    print('asleep', file=sys.stderr, flush=True)\n    time.sleep(seconds)\n"
        "if __name__ == '__main__':\n    pair = Workers(workers=2)\n"
        "    list(map_parts(sleep, [60, 60], execution=pair, label='sleepers'))\n"
    )
    code = f"import sys, runpy; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; runpy.run_module('sleepers', {{}}, "
    stage = started(tmp_path, "-c", code + "'__main__', alter_sys=True)")
    stage.wait_for("asleep")
    workers = psutil.Process(stage.process.pid).children(recursive=True)
    assert len(workers) >= 2
    stage.process.kill()
    stage.end()
    psutil.wait_procs(workers, timeout=10)
    assert [w for w in workers if w.is_running() and w.status() != psutil.STATUS_ZOMBIE] == []


def test_what_a_killed_publisher_left_is_swept_by_the_next(
    tiny: Any, with_shards: Callable[[str], Path], started: Callable[..., Started]
) -> None:
    store = with_shards("store")
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    left = store / "tmp" / f"{boot}_{dead.pid}_1_abc" / "artifact" / "payload"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert started(store, *pretrain(tiny, "--max-steps", "1")).end() == 0
    assert list((store / "tmp").iterdir()) == []


def test_a_second_trainer_of_a_run_waits_and_then_stops(
    tiny: Any, with_shards: Callable[[str], Path], started: Callable[..., Started]
) -> None:
    store = with_shards("store")
    first = started(store, *pretrain(tiny, "--max-steps", str(STEPS)))
    first.wait_for("step   10/")
    (folder,) = (store / "runs").iterdir()
    with pytest.raises(StoppedError, match=f"is being written by process {first.process.pid}"):
        Lease.acquire(folder, patience_seconds=0.5)
    first.process.send_signal(signal.SIGKILL)
    first.end()
    Lease.acquire(folder, patience_seconds=0.5).release()
