"""Machinery: which process of which boot of which machine this is, and whether one is still alive."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.runtime.hashing import Page


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one machine; pids are reused, this is not."""

    boot_id: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """Return the running process."""
        return cls(boot_id=boot_id(), pid=os.getpid(), started=process_start(os.getpid()) or "")

    def is_alive(self) -> bool:
        """Tell whether this very process still runs."""
        return self.boot_id == boot_id() and process_start(self.pid) == self.started

    def as_json(self) -> Page:
        return asdict(self)


def boot_id() -> str:
    """Return a name for this boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(round(psutil.boot_time()))


def process_start(pid: int) -> str | None:
    """Return when `pid` started, in units of the system, or None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _process_start_elsewhere(pid)
    is_zombie = fields[0] in "ZX"
    return None if is_zombie else fields[19]


def _process_start_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
