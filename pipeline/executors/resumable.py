"""Machinery: the map that survives: a stage's work as phases of parts, each done once, whoever does it.

The store's runs/<id>/work/<phase>/<part>/ is a finished part: its files and result.json.  A part is made aside and
renamed, so that it is there whole or not at all; after a kill only missing parts are made.  Tasks of a job array share
the folder: each makes its own parts, waits for those of the others, and makes them itself when nobody else seems to.
"""

import errno
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.executors.executor import Crew, Workers, crew
from pipeline.runtime.console import progress
from pipeline.runtime.hashing import JSON
from pipeline.runtime.liveness import ProcessIdentity, boot_id

Task = TypeVar("Task")

RESULT = "result.json"
HOLDERS = "holders"
_POLL_SECONDS = 0.1


class DoneElsewhereError(Exception):
    """Another task of the job array finishes this: there is nothing left to do here."""


@dataclass(frozen=True)
class Work:
    """The folder of a stage's unfinished work, and who does it."""

    folder: Path
    execution: Workers
    crew: Crew

    def output(self, phase: str, index: int) -> Path:
        """Return the folder of a finished part."""
        return self.folder / phase / f"{index:06d}"

    def outputs(self, phase: str) -> list[Path]:
        """Return the folders of a phase's finished parts, in order."""
        return sorted(path for path in (self.folder / phase).iterdir() if not path.name.startswith("."))

    def map(
        self, phase: str, function: Callable[[Task, Path], dict[str, JSON]], tasks: Sequence[Task], *, label: str
    ) -> list[dict[str, JSON]]:
        """Return the result of every task, in order; those that are done already are only looked up.

        `function(task, folder)` writes its files into `folder`, which is new and its own, and returns what JSON can
        hold; it must be a module's own and a pure function of the task.
        """
        (self.folder / phase).mkdir(exist_ok=True)
        mine = range(self.execution.task_index, len(tasks), self.execution.num_tasks)
        self._make(phase, function, tasks, [i for i in mine if not _is_whole(self.output(phase, i))], label)
        self._await_others(phase, function, tasks, label)
        return [read_result(self.output(phase, i)) for i in range(len(tasks))]

    def rest(self) -> None:
        """Let worker processes end now: no phase comes any more."""
        self.crew.rest()

    def drop(self, phase: str, *, keep: Sequence[str] = ()) -> None:
        """Free the disk that a phase's files take, when no later phase reads them; results and `keep` stay."""
        if self.execution.num_tasks > 1:
            return  # another task of the job array may still read them
        for folder in self.outputs(phase):
            for path in folder.rglob("*"):
                if path.is_file() and path.name not in (RESULT, *keep):
                    path.unlink()

    # --- one's own parts -------------------------------------------------------------------------------------

    def _make(
        self,
        phase: str,
        function: Callable[[Task, Path], dict[str, JSON]],
        tasks: Sequence[Task],
        indices: Sequence[int],
        label: str,
    ) -> None:
        for i in indices:
            self._clear(phase, i)
        pieces = [_Piece(function=function, task=tasks[i], folder=self.output(phase, i)) for i in indices]
        for _ in progress(self.crew.run(_make_piece, pieces), total=len(pieces), label=label, unit="parts"):
            pass

    def _clear(self, phase: str, index: int) -> None:
        """Put aside what is left of a part from before this machine last started, but never a new one."""
        folder = self.output(phase, index)
        if not folder.exists():
            return
        aside = _aside(folder)
        with suppress(OSError):
            folder.rename(aside)
            if _is_whole(aside):  # another task of the job array has just made it again
                aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)

    # --- the others' -----------------------------------------------------------------------------------------

    def _await_others(
        self, phase: str, function: Callable[[Task, Path], dict[str, JSON]], tasks: Sequence[Task], label: str
    ) -> None:
        """Wait until every part is there; when none comes for long, make the next missing one."""
        missing = [i for i in range(len(tasks)) if not _is_whole(self.output(phase, i))]
        last = time.monotonic()
        while missing:
            if not self.folder.exists():
                raise DoneElsewhereError
            left = [i for i in missing if not _is_whole(self.output(phase, i))]
            if len(left) < len(missing):
                missing, last = left, time.monotonic()
            elif time.monotonic() - last > self.execution.patience_seconds:
                # Start where the other impatient ones do not.
                first = self.execution.task_index * len(missing) // self.execution.num_tasks
                self._make(phase, function, tasks, missing[first : first + self.execution.workers], label)
            else:
                time.sleep(_POLL_SECONDS)


@contextmanager
def open_work(folder: Path, execution: Workers, hands: Crew | None = None) -> Iterator[Work]:
    """Give the work in `folder`, and be known as one who is at it while the block runs; `hands` do it if given.

    Raises DoneElsewhereError when another task of the job array has ended the work meanwhile.
    """
    me = ProcessIdentity.current()
    holder = folder / HOLDERS / f"{me.boot_id}_{me.pid}_{me.started}"
    holder.parent.mkdir(parents=True, exist_ok=True)
    holder.touch()
    try:
        with nullcontext(hands) if hands else crew(execution) as at_work:
            yield Work(folder=folder, execution=execution, crew=at_work)
    except FileNotFoundError:
        if execution.num_tasks == 1 or folder.exists():
            raise
        raise DoneElsewhereError from None  # the task that publishes has published, and cleared up
    finally:
        holder.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A task on its way to a worker."""

    function: Callable[[Any, Path], dict[str, JSON]]
    task: Any
    folder: Path


def _make_piece(piece: _Piece) -> None:
    """Make one part aside and rename it into place; whoever made it meanwhile made the same bytes."""
    aside = _aside(piece.folder)
    aside.mkdir()
    try:
        result = piece.function(piece.task, aside)
        write_result(aside, result)
        try:
            os.rename(aside, piece.folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_result(folder: Path, result: Mapping[str, JSON]) -> None:
    """Say in the folder of a part that it is finished, on which machine, and what the function returned."""
    page = {"host": platform.node(), "boot": boot_id(), "result": result}
    (folder / RESULT).write_text(json.dumps(page, ensure_ascii=False), encoding="utf-8")


def read_result(folder: Path) -> dict[str, JSON]:
    """Return what the function returned that made a finished part."""
    page: dict[str, JSON] = json.loads((folder / RESULT).read_text(encoding="utf-8"))["result"]
    return page


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")


def _is_whole(folder: Path) -> bool:
    """Tell whether a part is finished, and its bytes not only in the memory of a machine that stopped."""
    try:
        page = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return bool(page["host"] != platform.node() or page["boot"] == boot_id())
