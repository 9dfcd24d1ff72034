"""Machinery: programs run to their end, timed from outside, with the memory of all their processes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CairnError, UnavailableError
from pipeline.runtime.hashing import Page

_SAMPLE_SECONDS = 0.2
PEERS = Path(__file__).parent / "peers"
_ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that ended well."""

    seconds: float
    cpu_seconds: float
    """what its processes had of the processors: far below `seconds` times their number, and others were at work"""
    peak_bytes: int
    """the most memory that its processes had together: shared pages are counted once where the system tells (PSS)"""
    peak_disk: int
    """the most that the watched folder took on the disk; 0 when none is watched"""
    out: str

    @property
    def last_line(self) -> str:
        return self.out.strip().splitlines()[-1]


def run_program(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str | None] | None = None,
    watched: Path | None = None,
) -> Ended:
    """Run a command in `folder` and wait for its end; `watched` is a folder whose size is looked at meanwhile.

    `environment` is set on top of this process's; None removes a variable.  Raises CairnError with
    the end of what the command said when it fails.
    """
    variables = {**os.environ, **(environment or {})}
    with (folder / "stderr.txt").open("w+", encoding="utf-8", errors="replace") as errors:
        started, cpu = time.perf_counter(), _cpu_of_children()
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            env={key: value for key, value in variables.items() if value is not None},
        )
        watch = _Watch(process.pid, watched)
        try:
            out, _ = process.communicate()
        finally:
            process.kill()
            watch.stop()
        seconds, cpu = time.perf_counter() - started, _cpu_of_children() - cpu
        if process.returncode != 0:
            errors.seek(0)
            last = "\n  ".join(errors.read().strip().splitlines()[-8:])
            raise CairnError(f"`{' '.join(map(str, command))}` ended with {process.returncode}:\n  {last}")
    return Ended(seconds=seconds, cpu_seconds=cpu, peak_bytes=watch.peak, peak_disk=watch.peak_disk, out=out)


def run_stage(module: str, *arguments: str, store: Path, folder: Path, watch_disk: bool = False) -> Ended:
    """Run `python -m MODULE ARGUMENTS` of ours as a user would, and publish into `store`."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", module, *arguments, "--store", str(store)]
    watched = store if watch_disk else None
    return run_program(command, folder=folder, environment={"PYTHONPATH": path}, watched=watched)


def run_peer(script: str, python: Path, settings: Page, *, folder: Path) -> Page:
    """Run a peer's script with its own Python and return what it reports, its peak memory added.

    Raises UnavailableError when it fails: a figure without this peer is better than none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home: dict[str, str | None] = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    home |= {"PYTHONPATH": None, "GOMP_SPINCOUNT": None}  # what we set for ourselves is not for others
    try:
        ended = run_program(
            [str(python), str(PEERS / f"{script}.py"), json.dumps(settings)], folder=folder, environment=home
        )
    except CairnError as error:
        raise UnavailableError(str(error)) from error
    page: Page = json.loads(ended.last_line)
    return {**page, "peak_bytes": ended.peak_bytes, "cpu_seconds": ended.cpu_seconds}


def _cpu_of_children() -> float:
    """Return the processor seconds of all ended children of this process, and of theirs."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class _Watch:
    """Looks every so often at how much memory a process and its descendants have, and at the size of a folder."""

    def __init__(self, pid: int, folder: Path | None) -> None:
        self.peak = self.peak_disk = 0
        self._pid, self._folder = pid, folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, memory_of(self._pid))
            if self._folder is not None:
                self.peak_disk = max(self.peak_disk, disk_of(self._folder))


def disk_of(folder: Path) -> int:
    """Return the bytes of a folder's files, each once whatever its names, while others add and remove some."""
    sizes: dict[tuple[int, int], int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(root, name))
            except FileNotFoundError:
                continue
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def memory_of(pid: int) -> int:
    """Return the bytes of memory of a process and its descendants together; 0 when it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    size = 0
    for member in family:
        try:
            about = member.memory_full_info()
            size += int(getattr(about, "pss", about.rss))
        except (psutil.Error, OSError):
            continue
    return size
