"""Signals, threads and memory of a process, and its end with its parent's."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from pipeline.errors import StoppedError
from pipeline.runtime import process as process_module
from pipeline.runtime.process import is_main_process, keep_memory


def test_sigterm_is_an_orderly_end_with_exit_75() -> None:
    code = (
        "import time; from pipeline.runtime.console import say\nfrom pipeline.runtime.process import prepare_process\n"
        "from pipeline.runtime.program import guarded\n"
        "def body():\n    say('ready'); time.sleep(60); return 0\n"
        "prepare_process(); raise SystemExit(guarded(body, debug=False))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None and child.stderr.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read()

    assert (child.returncode, "stopped by SIGTERM. Run the same command again" in said) == (75, True)


def test_a_program_stays_offline_unless_it_is_told_otherwise() -> None:
    code = "import os, pipeline.runtime.process as p; p.prepare_process(); print(os.environ['HF_HUB_OFFLINE'])"
    base = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}

    plain = subprocess.run([sys.executable, "-c", code], env=base, capture_output=True, text=True, check=True)
    told = subprocess.run(
        [sys.executable, "-c", code], env={**base, "HF_HUB_OFFLINE": "0"}, capture_output=True, text=True, check=True
    )

    assert (plain.stdout, told.stdout) == ("1\n", "0\n")


def test_every_signal_to_stop_is_named_and_says_that_the_same_command_goes_on() -> None:
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM\. Run the same command again to go on\.$"):
        process_module._stop(signal.SIGTERM, None)


PREPARED = """
import json, os, signal, pipeline.runtime.process as p
p.die_with_parent = lambda parent: print(json.dumps(parent == os.getppid()))
p.prepare_process()
print(json.dumps([os.environ.get("GOMP_SPINCOUNT"), signal.getsignal(signal.SIGTERM) is p._stop]))
"""


def prepared(**environment: str) -> list[Any]:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ACCELERATE_MIXED_PRECISION")
    base = {key: value for key, value in os.environ.items() if key not in names}
    command = [sys.executable, "-c", PREPARED]
    done = subprocess.run(command, env={**base, **environment}, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_threads_that_wait_spin_for_a_short_while_unless_a_person_says_how() -> None:
    assert prepared() == [["10000", True]]
    assert prepared(GOMP_SPINCOUNT="7") == [["7", True]]
    assert prepared(OMP_WAIT_POLICY="active") == [[None, True]]


def test_what_accelerate_launches_ends_with_its_launcher() -> None:
    assert prepared(ACCELERATE_MIXED_PRECISION="no") == [True, ["10000", True]]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    code = "import pipeline.runtime.process as p; p.die_with_parent(1); print('still here')"
    if os.getppid() == 1:
        code = code.replace("(1)", "(0)")

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_the_main_process_is_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


FREED = """
import ctypes, sys
from pipeline.runtime.process import keep_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "keep":
    keep_memory()
before = resident()
block = malloc(2**24)
ctypes.memset(block, 1, 2**24)
free(block)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is left as it is")
def test_freed_memory_is_kept_when_asked_for() -> None:
    commands = [[sys.executable, "-c", FREED, how] for how in ("keep", "return")]
    kept, returned = (
        int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for command in commands
    )

    assert kept > 2**23 > returned


def test_elsewhere_memory_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda *a, **o: pytest.fail("the C library was asked"))

    keep_memory()
    process_module.die_with_parent(0)
