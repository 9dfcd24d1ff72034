"""Machinery: a map that can be stopped and resumed: a stage's work as phases of work items, each done once, by anybody.

The store's runs/<id>/work/<phase>/<index>/ is what a finished work item left: its files and result.json.  It is made
aside and renamed, so that it is there whole or not at all; after a kill only what is missing is made.  Tasks of a job
array share the folder: each makes its own share, waits for that of the others, and makes it itself when nobody else
seems to.

Why aside and renamed: a rename of a folder is the one step that a kill cannot halve, and of two that make the same
output one loses the race and changes nothing, so that no lock is needed for it to be right.

Why a result names the boot: nothing here is flushed to the disk, which would cost more than the work of many items.
What a killed process wrote is still in the memory of its machine.  When the machine went down, a name may be there
and its bytes not: whether a rename reaches the disk after the data depends on the file system (Pillai et al. 2014, All
File Systems Are Not Created Equal, OSDI).  So an output of this machine from before it started last is made again; that
of another machine came here over a network, and is taken as it is.  What is published is flushed, and hashed.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.executors.executor import Executor, Workers, executor
from pipeline.runtime.console import progress
from pipeline.runtime.files import aside_of, rename_new
from pipeline.runtime.hashing import JSON, Page
from pipeline.runtime.liveness import ProcessIdentity, boot_id

Item = TypeVar("Item")

RESULT = "result.json"
HOLDERS = "holders"
_POLL_SECONDS = 0.1


class DoneElsewhereError(Exception):
    """Another task of the job array finishes this: there is nothing left to do here."""


class Output(NamedTuple):
    """What a work item left: the folder of its files, and what its function returned."""

    folder: Path
    result: Page


@dataclass(frozen=True)
class Work:
    """The folder of a stage's unfinished work, and who does it."""

    folder: Path
    execution: Workers
    executor: Executor

    def map(
        self, phase: str, function: Callable[[Item, Path], dict[str, JSON]], items: Sequence[Item], *, label: str
    ) -> list[Output]:
        """Return the output of every work item, in order; those that are done already are only looked up.

        `function(item, folder)` writes its files into `folder`, which is new and its own, and returns what JSON can
        hold; it must be a module's own and a pure function of the item.
        """
        (self.folder / phase).mkdir(exist_ok=True)
        mine = range(self.execution.task_index, len(items), self.execution.num_tasks)
        self._make(phase, function, items, [i for i in mine if not _is_whole(self._folder(phase, i))], label)
        self._await_others(phase, function, items, label)
        return [Output(folder, _read_result(folder)) for folder in (self._folder(phase, i) for i in range(len(items)))]

    def _folder(self, phase: str, index: int) -> Path:
        return self.folder / phase / f"{index:06d}"

    def drop(self, outputs: Sequence[Output], *, keep: Sequence[str] = ()) -> None:
        """Free the disk that files of outputs take, when no later phase reads them; results and `keep` stay."""
        if self.execution.num_tasks > 1:
            return  # another task of the job array may still read them
        for output in outputs:
            for path in output.folder.rglob("*"):
                if path.is_file() and path.name not in (RESULT, *keep):
                    path.unlink()

    # --- one's own outputs -------------------------------------------------------------------------------------

    def _make(
        self,
        phase: str,
        function: Callable[[Item, Path], dict[str, JSON]],
        items: Sequence[Item],
        indices: Sequence[int],
        label: str,
    ) -> None:
        for i in indices:
            self._clear(phase, i)
        calls = [_Call(function=function, item=items[i], folder=self._folder(phase, i)) for i in indices]
        for _ in progress(self.executor.run(_make_output, calls), total=len(calls), label=label, unit="parts"):
            pass

    def _clear(self, phase: str, index: int) -> None:
        """Put aside what is left of an output from before this machine last started, but never a new one."""
        folder = self._folder(phase, index)
        if not folder.exists():
            return
        aside = aside_of(folder)
        with suppress(OSError):
            folder.rename(aside)
            if _is_whole(aside):  # another task of the job array has just made it again
                aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)

    # --- the others' -----------------------------------------------------------------------------------------

    def _await_others(
        self, phase: str, function: Callable[[Item, Path], dict[str, JSON]], items: Sequence[Item], label: str
    ) -> None:
        """Wait until every output is there; when none comes for long, make the next missing one."""
        missing = [i for i in range(len(items)) if not _is_whole(self._folder(phase, i))]
        last = time.monotonic()
        while missing:
            if not self.folder.exists():
                raise DoneElsewhereError
            left = [i for i in missing if not _is_whole(self._folder(phase, i))]
            if len(left) < len(missing):
                missing, last = left, time.monotonic()
            elif time.monotonic() - last > self.execution.patience_seconds:
                # Start where the other impatient ones do not.
                first = self.execution.task_index * len(missing) // self.execution.num_tasks
                self._make(phase, function, items, missing[first : first + self.execution.workers], label)
            else:
                time.sleep(_POLL_SECONDS)


@contextmanager
def open_work(folder: Path, execution: Workers) -> Iterator[Work]:
    """Give the work in `folder`, and be known as one who is at it while the block runs.

    Raises DoneElsewhereError when another task of the job array has ended the work meanwhile.
    """
    me = ProcessIdentity.current()
    holder = folder / HOLDERS / f"{me.boot_id}_{me.pid}_{me.started}"
    holder.parent.mkdir(parents=True, exist_ok=True)
    holder.touch()
    try:
        with executor(execution) as started:
            yield Work(folder=folder, execution=execution, executor=started)
    except FileNotFoundError:
        if execution.num_tasks == 1 or folder.exists():
            raise
        raise DoneElsewhereError from None  # the task that publishes has published, and cleared up
    finally:
        holder.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A work item on its way to a worker."""

    function: Callable[[Any, Path], dict[str, JSON]]
    item: Any
    folder: Path


def _make_output(call: _Call) -> None:
    """Make one output aside and rename it into place; whoever made it meanwhile made the same bytes."""
    aside = aside_of(call.folder)
    aside.mkdir()
    try:
        result = call.function(call.item, aside)
        page = {"host": platform.node(), "boot": boot_id(), "result": result}
        (aside / RESULT).write_text(json.dumps(page, ensure_ascii=False), encoding="utf-8")
        rename_new(aside, call.folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read_result(folder: Path) -> Page:
    result: Page = _read_page(folder)["result"]
    return result


def _read_page(folder: Path) -> Page:
    page: Page = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return page


def _is_whole(folder: Path) -> bool:
    """Tell whether an output is finished, and its bytes not only in the memory of a machine that stopped."""
    try:
        page = _read_page(folder)
    except (FileNotFoundError, ValueError):
        return False
    return bool(page["host"] != platform.node() or page["boot"] == boot_id())
