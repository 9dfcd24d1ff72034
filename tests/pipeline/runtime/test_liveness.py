"""A process is known by more than its number."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime import liveness
from pipeline.runtime.liveness import ProcessIdentity, boot_id, process_start

SLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_this_process_is_alive_and_comes_back_from_json() -> None:
    me = ProcessIdentity.current()

    assert me.is_alive() and me.pid == os.getpid() and me.boot_id == boot_id()
    assert ProcessIdentity(**me.as_json()) == me


def test_a_process_is_alive_until_it_ends_also_while_nobody_asks_how_it_ended() -> None:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE) as child:
        other = ProcessIdentity(boot_id(), child.pid, process_start(child.pid) or "")
        assert other.started and other.is_alive()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie

        assert process_start(child.pid) is None and not other.is_alive()
    assert not other.is_alive()


@pytest.mark.parametrize("change", [{"boot_id": "another boot"}, {"started": "1"}])
def test_another_process_of_the_same_number_is_not_this_one(change: dict[str, str]) -> None:
    assert not dataclasses.replace(ProcessIdentity.current(), **change).is_alive()


def test_a_name_with_brackets_and_spaces_does_not_move_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ["S", *map(str, range(1, 19)), "4711", "20"]
    monkeypatch.setattr(Path, "read_text", lambda path: f"12 (a ) Z b) {' '.join(fields)}\n")

    assert process_start(12) == "4711"


def test_where_there_is_no_proc_psutil_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", nothing)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()

    assert process_start(os.getpid()) == process_start(os.getpid()) not in (None, "")
    assert process_start(gone.pid) is None
    assert float(liveness.boot_id()) > 1e9 and boot_id() == boot_id()
