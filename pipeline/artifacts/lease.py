"""Machinery: the lease of a run folder, so that no two processes write one run.

A file that names its holder (Gray and Cheriton, 1989), and no lock of the system: those differ between file systems,
are inherited by forked children, and do not say who has them.  The lease is checked again at every checkpoint: a
holder that slept while another took over finds out before it writes (why a lock alone cannot do that: Kleppmann, "How
to do distributed locking", 2016).  One machine: the holder is alive when its boot id, pid and start time are those of
a running process; a pid alone is soon another's.
"""

import json
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoppedError
from pipeline.runtime.files import write_json
from pipeline.runtime.liveness import ProcessIdentity

LEASE = "lease.json"


@dataclass(frozen=True)
class Lease:
    """The right to write in `folder`, held until `release` or the end of the process."""

    folder: Path
    uuid: str

    @classmethod
    def acquire(cls, folder: Path, *, patience_seconds: float = 20.0) -> "Lease":
        """Take the lease of `folder`, waiting for a holder that is about to end.

        Raises StoppedError when another live process keeps it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lease = cls(folder=folder, uuid=uuid.uuid4().hex)
        deadline = time.monotonic() + patience_seconds
        while (holder := live_holder(folder)) is not None:
            if time.monotonic() > deadline:
                raise StoppedError(
                    f"{folder} is being written by process {holder.pid}. Wait for it, or stop it, "
                    "and run the same command again."
                )
            time.sleep(0.2)
        lease._take()
        lease.check()
        return lease

    def _take(self) -> None:
        page = {"uuid": self.uuid, **ProcessIdentity.current().as_json()}
        stale = self.folder / LEASE
        if stale.exists():
            write_json(stale, page)
            time.sleep(0.05)  # of two that take over at once the later write wins, and `check` tells the other
            return
        aside = self.folder / f".lease.{self.uuid}"
        write_json(aside, page)
        try:
            os.link(aside, stale)
        except FileExistsError:
            pass  # `check` tells that somebody else was first
        finally:
            aside.unlink()

    def check(self) -> None:
        """Raise StoppedError when the lease is somebody else's by now."""
        page = _read(self.folder)
        if page is None or page["uuid"] != self.uuid:
            raise StoppedError(f"{self.folder} was taken over by another process; this one stops without writing.")

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        page = _read(self.folder)
        if page is not None and page["uuid"] == self.uuid:
            (self.folder / LEASE).unlink(missing_ok=True)


def _read(folder: Path) -> dict[str, str] | None:
    try:
        page: dict[str, str] = json.loads((folder / LEASE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        print(f"{folder / LEASE} is not readable and counts as nobody's", file=sys.stderr)
        return None
    return page


def live_holder(folder: Path) -> ProcessIdentity | None:
    """Return the process that writes in a run folder, if it still runs."""
    page = _read(folder)
    if page is None:
        return None
    holder = ProcessIdentity(boot_id=page["boot_id"], pid=int(page["pid"]), started=page["started"])
    return holder if holder.is_alive() else None
