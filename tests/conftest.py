"""Fixtures that several rooms' tests share."""

import contextlib
import fcntl
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is imported: see pipeline.runtime.process

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store

ROOT = Path(__file__).parent.parent
TRAINED = [f"{step}{what}" for step in ("pretrain", "classifier", "assistant") for what in ("", "_scores")]
ONE_THREAD = [part for step in TRAINED for part in (f"--{step}.threads", "1")]
"""for networks as small as these, and beside another test: two threads take three times the processor; in no id"""


@dataclass(frozen=True)
class Ended:
    """A program that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def start(*arguments: str, store: Path, cwd: Path | None = None, **environment: str) -> Ended:
    """Run `python ARGUMENTS` as a user would, in a store, and wait for its end."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "CAIRN_STORE": str(store), **environment},
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Ended]:
    """Run a program of ours in a store of this test's own: program("-m", "pipeline.corpus", …)."""

    def run(*arguments: str, store: Path = tmp_path / "store", **options: str) -> Ended:
        return start(*arguments, store=store, **options)

    return run


Shared = Callable[[str, Callable[[Path], None]], Path]
"""shared("name", make) gives the folder that make(folder) filled, once for all processes of the tests"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the files that run whole programs to the front: the short ones after them even out what each process does.

    The first of the two processes builds `tiny` while the second one is at the cluster and the engines, without it.
    """
    order = {f"test_{name}": i for i, name in enumerate(("faults", "cluster", "engines", "launch", "flow", "readme"))}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Fill a folder in the process that asks for it first; the others wait for it.  Look, but do not write."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def fill(name: str, make: Callable[[Path], None]) -> Path:
        folder, made = root / f"shared-{name}", root / f"shared-{name}.made"
        with (root / f"shared-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a process left that failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return fill


@dataclass(frozen=True)
class Tiny:
    """The whole chain, built once: its store, and what running it printed. Look, but do not write."""

    store: Store
    ended: Ended

    def __getitem__(self, step: str) -> Artifact:
        return self.store.find(f"tiny.{step}")


@pytest.fixture(scope="session")
def one_thread() -> list[str]:
    """Flags of `pipeline.run tiny` for one thread in every step that trains or scores."""
    return ONE_THREAD


def run_tiny(folder: Path) -> None:
    ended = start("-m", "pipeline.run", "tiny", *ONE_THREAD, store=folder / "store")
    assert ended.code == 0, ended.err
    (folder / "ended.json").write_text(json.dumps(asdict(ended)))


@pytest.fixture(scope="session")
def tiny(shared: Shared) -> Tiny:
    """Run the recipe `tiny` to its end."""
    folder = shared("tiny", run_tiny)
    return Tiny(Store(folder / "store"), Ended(**json.loads((folder / "ended.json").read_text())))


@pytest.fixture
def old_store(tmp_path: Path) -> Store:
    """A copy, in which a test may write, of the small store that tests/data/README.md tells of."""
    return Store(Path(shutil.copytree(ROOT / "tests" / "data" / "store_v1", tmp_path / "old_store")))


@pytest.fixture
def run_in() -> Iterator[Callable[..., str]]:
    """Run a program that must succeed, in this process: run_in(store, "train.evaluate", …) -> what it printed."""
    import torch

    environment, handler, threads = dict(os.environ), signal.getsignal(signal.SIGTERM), torch.get_num_threads()

    def run(store: Store, module: str, *arguments: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = importlib.import_module(module).main([*arguments, "--store", str(store.root)])
        assert code == 0, err.getvalue()
        return out.getvalue()

    yield run
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)
