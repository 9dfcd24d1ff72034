"""A map over parts gives its results in order, whatever the number of workers."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.executors.executor import Workers, default_workers, executor, map_parts


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_work_items(workers: int) -> None:
    assert list(map_parts(math.sqrt, [16, 9, 4, 1], execution=Workers(workers=workers), label="roots")) == [4, 3, 2, 1]


def test_no_work_item_is_no_result() -> None:
    assert list(map_parts(math.sqrt, [], execution=Workers(workers=3), label="roots")) == []


def test_one_worker_or_one_work_item_works_in_this_process() -> None:
    assert list(map_parts(os.getenv, ["PATH", "HOME"], execution=Workers(workers=1), label="x")) == [
        os.getenv("PATH"),
        os.getenv("HOME"),
    ]
    seen: list[int] = []

    list(map_parts(seen.append, [7], execution=Workers(workers=4), label="x"))

    assert seen == [7]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_several_workers_are_processes_of_their_own() -> None:
    here = os.path.realpath("/proc/self")

    found = list(map_parts(os.path.realpath, ["/proc/self", "/proc/self"], execution=Workers(workers=2), label="x"))

    assert all(place.startswith("/proc/") for place in found) and here not in found


def test_processes_start_with_the_first_map_of_several_items_serve_all_later_ones_and_end_with_the_block() -> None:
    me, before = os.getpid(), set(multiprocessing.active_children())
    with executor(Workers(workers=2)) as started:
        assert list(started.run(pid_of, [0])) == [(0, me)] and set(multiprocessing.active_children()) <= before

        several = {pid for _, pid in started.run(pid_of, range(8))}
        workers = set(multiprocessing.active_children()) - before
        assert several <= {worker.pid for worker in workers} and 1 <= len(workers) <= 2
        assert {pid for _, pid in started.run(pid_of, [0])} <= {worker.pid for worker in workers}

    for worker in workers:
        worker.join(timeout=30)
    assert not workers & set(multiprocessing.active_children())


def pid_of(item: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_part_is_the_error_of_the_whole(workers: int) -> None:
    with pytest.raises(ValueError, match="math domain error|expected a nonnegative"):
        list(map_parts(math.sqrt, [4, -1, 9], execution=Workers(workers=workers), label="roots"))


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_workers_than_one_are_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 1, got {workers}"):
        Workers(workers=workers)


def test_the_default_is_the_processors_this_process_may_use() -> None:
    assert Workers().workers == default_workers() == len(os.sched_getaffinity(0))


ENDLESS = """
import sys, time
from pipeline.executors.executor import Workers, map_parts
if __name__ == "__main__":
    list(map_parts(time.sleep, [300, 300], execution=Workers(workers=2), label="x"))
"""


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_the_workers_of_a_killed_process_end_with_it(tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 30
    workers: list[int] = []
    while time.monotonic() < deadline and len(workers) < 2:
        time.sleep(0.1)
        spawned = [pid for pid in children_of(parent.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        workers = spawned if len(spawned) == 2 else []
    time.sleep(1)  # for them to have asked the kernel
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    while time.monotonic() < deadline and any(map(is_running, workers)):
        time.sleep(0.1)

    assert len(workers) == 2 and not any(map(is_running, workers))
