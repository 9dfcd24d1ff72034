"""Machinery: map a pure function over parts of fixed order, in this process or in a pool of fresh ones."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.errors import ConfigError
from pipeline.process import die_with_parent, progress

Task = TypeVar("Task")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How a stage of class "bytes" runs; changes no byte of what it makes."""

    workers: int = field(default_factory=default_workers)
    """processes (or threads, where the work is done in threads)"""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}.")


def map_parts(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int, label: str
) -> Iterator[Result]:
    """Yield function(task) in the order of `tasks`; the results do not depend on `workers`.

    `function` and the tasks are sent to spawned processes, so the function must be a module's own.
    """
    if workers == 1 or len(tasks) < 2:
        yield from progress(map(function, tasks), total=len(tasks), label=label, unit="parts")
        return
    context = multiprocessing.get_context("spawn")
    # A worker waits for work for ever, also when the process that would send it was killed.
    with ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=die_with_parent, initargs=(os.getpid(),)
    ) as pool:
        yield from progress(pool.map(function, tasks), total=len(tasks), label=label, unit="parts")
