"""Machinery: run a pure function over work items: in this process, in a pool of fresh ones, or on a Ray cluster."""

import contextlib
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from pipeline.errors import ConfigError, StoppedError, UnavailableError
from pipeline.runtime.console import progress
from pipeline.runtime.process import die_with_parent, keep_memory

Item = TypeVar("Item")
Result = TypeVar("Result")
Handle = TypeVar("Handle")

_IN_FLIGHT = 4
"""work items handed out per worker ahead of time, so that a million of them are not in memory at once"""


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How a stage of class "bytes" runs; changes no byte of what it makes."""

    workers: int = field(default_factory=default_workers)
    """processes (or threads, where the work is done in threads)"""
    engine: Literal["local", "ray"] = "local"
    """where processes run: on this machine, or on the Ray cluster that RAY_ADDRESS names"""
    task_index: int = 0
    """which task of a job array this is, from 0; task 0 publishes"""
    num_tasks: int = 1
    """tasks of the job array, all with the same command but for --task-index and one shared store"""
    patience_seconds: float = 60.0
    """after this long without progress, a task of a job array does the parts of the others itself"""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")
        if not 0 <= self.task_index < self.num_tasks:
            raise ConfigError(
                f"task_index must be from 0 to num_tasks - 1, got {self.task_index} of {self.num_tasks} tasks."
            )


class Executor:
    """Runs a module's own function over work items, on this machine; its processes start when they are first needed."""

    def __init__(self, execution: Workers) -> None:
        self.execution = execution
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Yield (index, result) of every work item as they come; a single one is done here."""
        if self.execution.workers == 1 or (len(items) < 2 and self._pool is None):
            yield from ((i, function(item)) for i, item in enumerate(items))
            return
        if self._pool is None:
            self._pool = _pool(self.execution.workers)
        yield from _in_pool(self._pool, function, items, self.execution.workers * _IN_FLIGHT)

    def shutdown(self, *, wait: bool = True) -> None:
        """End the processes; without `wait` they do that while other things are done."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None


class RayExecutor(Executor):
    """Runs work items on a Ray cluster, which has its processes."""

    def __init__(self, execution: Workers) -> None:
        super().__init__(execution)
        self._ray = _connected(execution)

    def run(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        yield from _on_ray(self._ray, function, items)

    def shutdown(self, *, wait: bool = True) -> None:
        self._ray.shutdown()


@contextmanager
def executor(execution: Workers) -> Iterator[Executor]:
    """Give what runs work items as `execution` says."""
    quiet = contextlib.redirect_stdout(sys.stderr)  # where Ray's own messages belong: stdout is for the result
    with quiet if execution.engine == "ray" else contextlib.nullcontext():
        found = RayExecutor(execution) if execution.engine == "ray" else Executor(execution)
        is_idle = False
        try:
            yield found
            is_idle = True
        finally:
            found.shutdown(wait=not is_idle)


def map_parts(
    function: Callable[[Item], Result], items: Sequence[Item], *, execution: Workers, label: str
) -> Iterator[Result]:
    """Yield function(item) in the order of `items`; the results do not depend on `execution`.

    `function` and the items are sent to other processes, so the function must be a module's own.
    """
    waiting: dict[int, Result] = {}
    turn = 0
    with executor(execution) as started:
        for i, result in progress(started.run(function, items), total=len(items), label=label, unit="parts"):
            waiting[i] = result
            while turn in waiting:
                yield waiting.pop(turn)
                turn += 1


# --- the pool of this machine --------------------------------------------------------------------------------


def _pool(workers: int) -> ProcessPoolExecutor:
    # A worker waits for work for ever, also when the process that would send it was killed.
    return ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare_worker,
        initargs=(os.getpid(),),
    )


def _prepare_worker(parent: int) -> None:
    die_with_parent(parent)
    keep_memory()
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # so that Arrow's memory is kept too


def _in_pool(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], at_once: int
) -> Iterator[tuple[int, Result]]:
    try:
        for i, future in _handed_out(
            items,
            at_once,
            hand_out=lambda item: pool.submit(function, item),
            finished=lambda futures: wait(futures, return_when=FIRST_COMPLETED).done,
        ):
            yield i, future.result()
    except BrokenProcessPool as error:
        raise StoppedError(
            "a worker process was killed, perhaps because memory ran out. What it had finished is kept: run the same "
            "command again, with fewer --workers if it was memory."
        ) from error


def _handed_out(
    items: Sequence[Item],
    at_once: int,
    *,
    hand_out: Callable[[Item], Handle],
    finished: Callable[[list[Handle]], Iterable[Handle]],
) -> Iterator[tuple[int, Handle]]:
    """Hand work items out, so many at once; yield (index, handle) of each that ends."""
    flying: dict[Handle, int] = {}
    following = iter(enumerate(items))
    while True:
        while len(flying) < at_once and (entry := next(following, None)) is not None:
            flying[hand_out(entry[1])] = entry[0]
        if not flying:
            return
        for handle in finished(list(flying)):
            yield flying.pop(handle), handle


# --- a Ray cluster -------------------------------------------------------------------------------------------


def _on_ray(ray: ModuleType, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
    remote = ray.remote(num_cpus=1, max_retries=5)(function)
    at_once = _IN_FLIGHT * max(1, int(ray.cluster_resources().get("CPU", 1)))
    for i, reference in _handed_out(
        items, at_once, hand_out=remote.remote, finished=lambda references: ray.wait(references, num_returns=1)[0]
    ):
        yield i, _result_from(ray, reference)


def _connected(execution: Workers) -> ModuleType:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine; once per process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UnavailableError(
            '--engine ray needs the package ray. Install it: python -m pip install "cairn-lm[cluster]"'
        ) from None
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    _check_address(address or "")
    root = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {} if address else {"num_cpus": execution.workers, "include_dashboard": False}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}},
            **options,
        )
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise UnavailableError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from error
    return ray


def _check_address(address: str) -> None:
    """Try to connect to the address of a cluster: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UnavailableError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {error.strerror or error}. Start one with "
            "`ray start --head`, or unset RAY_ADDRESS to run on this machine."
        ) from error


def _result_from(ray: ModuleType, reference: Any) -> Any:
    """Return a work item's result; an error of ours comes back as what it was."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise StoppedError(
            f"the Ray cluster lost a work item for good: {error}. What was finished is kept: run the same command "
            "again."
        ) from error
