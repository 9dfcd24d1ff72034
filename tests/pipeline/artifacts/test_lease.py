"""No two processes write one run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifacts.lease import LEASE, Lease
from pipeline.errors import StoppedError
from pipeline.runtime.files import write_json
from pipeline.runtime.liveness import ProcessIdentity, boot_id, process_start

DEAD_HOLDER = "import sys; from pathlib import Path; from pipeline.artifacts.lease import Lease; "
DEAD_HOLDER += "Lease.acquire(Path(sys.argv[1]))"


def hand_over(folder: Path, **change: object) -> None:
    """Write a lease of somebody else's into `folder`."""
    write_json(folder / LEASE, {"uuid": "another", **ProcessIdentity.current().as_json(), **change})


def test_a_lease_names_the_process_that_holds_it(tmp_path: Path) -> None:
    Lease.acquire(tmp_path / "run")

    page = json.loads((tmp_path / "run" / LEASE).read_text())
    assert (page["pid"], page["boot_id"]) == (os.getpid(), boot_id())


def test_a_live_holder_refuses_a_second_one(tmp_path: Path) -> None:
    first = Lease.acquire(tmp_path)

    with pytest.raises(StoppedError, match=f"process {os.getpid()}") as caught:
        Lease.acquire(tmp_path, patience_seconds=0)

    assert caught.value.exit_code == 75
    first.check()


def test_another_live_process_refuses_too(tmp_path: Path) -> None:
    hand_over(tmp_path, pid=os.getppid(), started=process_start(os.getppid()))

    with pytest.raises(StoppedError, match=f"process {os.getppid()}"):
        Lease.acquire(tmp_path, patience_seconds=0)


def test_a_released_lease_can_be_taken_at_once(tmp_path: Path) -> None:
    Lease.acquire(tmp_path).release()

    Lease.acquire(tmp_path, patience_seconds=0).check()


def test_the_lease_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DEAD_HOLDER, str(tmp_path)], check=True)
    left = json.loads((tmp_path / LEASE).read_text())

    lease = Lease.acquire(tmp_path, patience_seconds=0)

    assert left["pid"] != os.getpid()
    assert json.loads((tmp_path / LEASE).read_text())["uuid"] == lease.uuid


@pytest.mark.parametrize("change", [{"boot_id": "another-boot"}, {"started": "1"}])
def test_an_earlier_process_with_the_same_number_counts_as_dead(tmp_path: Path, change: dict[str, str]) -> None:
    hand_over(tmp_path, **change)

    Lease.acquire(tmp_path, patience_seconds=0).check()


def test_a_lease_that_cannot_be_read_is_nobodys_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LEASE).write_text("{")

    Lease.acquire(tmp_path, patience_seconds=0).check()

    assert "counts as nobody's" in capsys.readouterr().err


def test_a_holder_that_slept_while_another_took_over_finds_out(tmp_path: Path) -> None:
    sleeper = Lease.acquire(tmp_path)
    hand_over(tmp_path)

    with pytest.raises(StoppedError, match="taken over"):
        sleeper.check()


def test_a_fenced_holder_does_not_give_away_what_is_not_its_own(tmp_path: Path) -> None:
    sleeper = Lease.acquire(tmp_path)
    hand_over(tmp_path)

    sleeper.release()

    assert json.loads((tmp_path / LEASE).read_text())["uuid"] == "another"


def test_a_lease_that_is_gone_is_no_longer_held(tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path)
    (tmp_path / LEASE).unlink()

    with pytest.raises(StoppedError):
        lease.check()
