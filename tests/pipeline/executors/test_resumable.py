"""Parts are made once, whoever makes them and however often it is stopped; none is taken for whole that is not."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.executors import resumable
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import RESULT, DoneElsewhereError, Output, Work, open_work
from pipeline.runtime.hashing import JSON

ALONE = Workers(workers=1)


@dataclass(frozen=True)
class Square:
    """A work item: the square of a number; `log` gets a line for each time it is made."""

    number: int
    log: Path


def square(item: Square, folder: Path) -> dict[str, JSON]:
    if item.number < 0:
        raise ValueError(f"{item.number} is too small")
    with item.log.open("a") as log:
        log.write(f"{item.number}\n")
    (folder / "square.txt").write_text(str(item.number**2))
    return {"square": item.number**2}


def outputs(folder: Path, *numbers: int, execution: Workers = ALONE) -> list[Output]:
    items = [Square(number, folder / "log") for number in numbers]
    with open_work(folder / "work", execution) as work:
        return work.map("squares", square, items, label="squares")


def squares(folder: Path, *numbers: int, execution: Workers = ALONE) -> list[int]:
    return [output.result["square"] for output in outputs(folder, *numbers, execution=execution)]


def made(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]


def work_in(folder: Path, execution: Workers = ALONE) -> Work:
    with open_work(folder / "work", execution) as work:
        return work


# --- one at work ---------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_work_items_and_files_stay_in_their_folders(tmp_path: Path) -> None:
    found = outputs(tmp_path, 3, 1, 2)
    assert [result["square"] for _, result in found] == [9, 1, 4]
    assert [(folder / "square.txt").read_text() for folder, _ in found] == ["9", "1", "4"]
    assert found == outputs(tmp_path, 3, 1, 2)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    assert squares(tmp_path, 3, 1) == squares(tmp_path, 3, 1) == [9, 1]
    assert made(tmp_path) == [3, 1]


def test_no_work_item_is_no_result(tmp_path: Path) -> None:
    assert squares(tmp_path) == [] and list((tmp_path / "work" / "squares").iterdir()) == []


def test_a_part_that_fails_leaves_nothing_and_those_before_it_are_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="-1 is too small"):
        squares(tmp_path, 2, -1, 3)

    assert [p.name for p in (tmp_path / "work" / "squares").iterdir()] == ["000000"]
    assert squares(tmp_path, 2, 1, 3) == [4, 1, 9] and made(tmp_path) == [2, 1, 3]


def test_freed_files_are_gone_and_results_stay(tmp_path: Path) -> None:
    found = outputs(tmp_path, 2, 3)
    assert len(list(tmp_path.rglob("square.txt"))) == 2

    work_in(tmp_path).drop(found)

    assert not list(tmp_path.rglob("square.txt")) and len(list(tmp_path.rglob("result.json"))) == 2
    assert squares(tmp_path, 2, 3) == [4, 9] and made(tmp_path) == [2, 3]


def test_files_to_keep_are_kept_when_others_are_freed(tmp_path: Path) -> None:
    work_in(tmp_path).drop(outputs(tmp_path, 2), keep=["square.txt"])
    assert len(list(tmp_path.rglob("square.txt"))) == 1


def test_a_job_array_frees_nothing_that_another_task_may_read(tmp_path: Path) -> None:
    work_in(tmp_path, Workers(workers=1, num_tasks=2)).drop(outputs(tmp_path, 2))
    assert len(list(tmp_path.rglob("square.txt"))) == 1


def test_an_error_of_the_system_that_says_exists_is_an_error(tmp_path: Path) -> None:
    with open_work(tmp_path / "work", ALONE) as work, pytest.raises(FileExistsError):
        work.map("x", exists_already, [1], label="x")


def exists_already(item: int, folder: Path) -> dict[str, JSON]:
    raise FileExistsError(errno.EEXIST, "this one is the work item's own")


def test_a_part_that_another_made_meanwhile_is_kept(tmp_path: Path) -> None:
    with open_work(tmp_path / "work", ALONE) as work:
        folder = work.folder / "x" / "000000"
        assert work.map("x", outrun, [folder], label="x") == [Output(folder, {"by": "another"})]
    assert [p.name for p in (tmp_path / "work" / "x").iterdir()] == ["000000"]


def outrun(item: Path, folder: Path) -> dict[str, JSON]:
    item.mkdir()
    finish_as_another(item)
    return {"by": "me"}


def finish_as_another(folder: Path) -> None:
    page = {"host": platform.node(), "boot": resumable.boot_id(), "result": {"by": "another"}}
    (folder / RESULT).write_text(json.dumps(page))


def test_a_part_that_another_made_again_just_before_the_old_one_is_put_aside_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_aside = resumable.aside_of

    def outrun_by_another(path: Path) -> Path:
        if path.exists():
            finish_as_another(path)
        return name_aside(path)

    monkeypatch.setattr(resumable, "aside_of", outrun_by_another)
    with open_work(tmp_path / "work", ALONE) as work:
        (work.folder / "x" / "000000").mkdir(parents=True)  # of an output without a result
        assert [result for _, result in work.map("x", say_me, [1], label="x")] == [{"by": "another"}]
    assert [p.name for p in (tmp_path / "work" / "x").iterdir()] == ["000000"]


def say_me(item: int, folder: Path) -> dict[str, JSON]:
    return {"by": "me"}


# --- killed and started again --------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, time
from dataclasses import dataclass
from pathlib import Path
from pipeline.executors.executor import Workers
from pipeline.executors.resumable import open_work

def grow(item, folder):
    (folder / "part.txt").write_text(str(item[0]))
    with open(item[1], "a") as log:
        log.write(f"{item[0]}\\n")
    if item[0] == 3 and not Path(item[2]).exists():
        Path(item[2]).touch()
        HOW
    return {"item": item[0]}

if __name__ == "__main__":
    root, workers = Path(sys.argv[1]), int(sys.argv[2])
    items = [(i, str(root / "log"), str(root / "killed")) for i in range(6)]
    with open_work(root / "work", Workers(workers=workers)) as work:
        print([output.result for output in work.map("parts", grow, items, label="parts")])
"""


def run(folder: Path, how: str, workers: int) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.replace("HOW", how))
    arguments = [sys.executable, str(folder / "program.py"), str(folder), str(workers)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def test_after_a_kill_only_the_parts_that_were_not_finished_are_made(tmp_path: Path) -> None:
    assert run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)", 1).returncode == -signal.SIGKILL
    assert made(tmp_path) == [0, 1, 2, 3]

    again = run(tmp_path, "", 1)

    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == str([{"item": i} for i in range(6)]) and made(tmp_path) == [0, 1, 2, 3, 3, 4, 5]


def test_a_killed_worker_stops_the_run_with_advice_and_the_same_command_goes_on(tmp_path: Path) -> None:
    killed = run(tmp_path, "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)", 2)
    done = {path.parent.name for path in tmp_path.rglob(RESULT)}
    assert killed.returncode == 1 and "StoppedError: a worker process was killed" in killed.stderr
    assert {"000000", "000001", "000002"} <= done and "000003" not in done

    again = run(tmp_path, "", 2)

    assert again.returncode == 0 and again.stdout.strip() == str([{"item": i} for i in range(6)])
    assert all(made(tmp_path).count(int(name)) == 1 for name in done)


def test_parts_written_before_this_machine_started_last_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares(tmp_path, 2, 3)
    monkeypatch.setattr(resumable, "boot_id", lambda: "another boot")

    assert squares(tmp_path, 2, 3) == squares(tmp_path, 2, 3) == [4, 9]

    assert made(tmp_path) == [2, 3, 2, 3]


def test_parts_of_another_machine_are_kept_whenever_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares(tmp_path, 2, 3)
    monkeypatch.setattr(resumable, "boot_id", lambda: "another boot")
    monkeypatch.setattr(platform, "node", lambda: "another machine")

    assert squares(tmp_path, 2, 3) == [4, 9] and made(tmp_path) == [2, 3]


def test_a_part_with_half_a_result_is_made_again(tmp_path: Path) -> None:
    squares(tmp_path, 2, 3)
    result = tmp_path / "work" / "squares" / "000001" / RESULT
    result.write_text(result.read_text()[:20])

    assert squares(tmp_path, 2, 3) == [4, 9] and made(tmp_path) == [2, 3, 3]


# --- several at work -----------------------------------------------------------------------------------------


def member(index: int, tasks: int, patience: float = 60.0) -> Workers:
    return Workers(workers=1, task_index=index, num_tasks=tasks, patience_seconds=patience)


def test_the_tasks_of_a_job_array_make_each_part_once_and_all_get_every_result(tmp_path: Path) -> None:
    found: dict[int, list[int]] = {}

    def take_part(index: int) -> None:
        found[index] = squares(tmp_path, *range(10), execution=member(index, 3))

    threads = [threading.Thread(target=take_part, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {key: [i * i for i in range(10)] for key in range(3)} and sorted(made(tmp_path)) == list(range(10))


def test_a_task_makes_the_parts_of_others_that_do_not_come(tmp_path: Path) -> None:
    assert squares(tmp_path, *range(7), execution=member(1, 3, patience=0)) == [i * i for i in range(7)]
    assert made(tmp_path)[:2] == [1, 4] and sorted(made(tmp_path)) == list(range(7))

    assert squares(tmp_path, *range(7), execution=member(0, 3)) == [i * i for i in range(7)]
    assert len(made(tmp_path)) == 7


def test_a_patient_task_waits_for_the_parts_of_others(tmp_path: Path) -> None:
    def come_late() -> None:
        time.sleep(0.3)
        squares(tmp_path, 5, 6, execution=member(1, 2, patience=0))

    late = threading.Thread(target=come_late)
    late.start()

    assert squares(tmp_path, 5, 6, execution=member(0, 2)) == [25, 36]

    late.join()
    assert made(tmp_path) == [5, 6]


def test_old_parts_of_others_from_before_this_machine_started_last_count_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares(tmp_path, 5, 6)
    monkeypatch.setattr(resumable, "boot_id", lambda: "another boot")

    assert squares(tmp_path, 5, 6, execution=member(0, 2, patience=0)) == [25, 36]

    assert made(tmp_path) == [5, 6, 5, 6]


def test_when_the_work_is_published_and_gone_there_is_nothing_left_to_do(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()

    def publish() -> None:
        time.sleep(0.3)
        os.rename(tmp_path / "work", tmp_path / "published")

    publisher = threading.Thread(target=publish)
    publisher.start()
    with pytest.raises(DoneElsewhereError):
        squares(tmp_path, 5, 6, execution=member(1, 2))  # waits for part 0
    publisher.join()
    assert not (tmp_path / "work").exists()


def test_a_late_task_does_not_bring_published_work_back(tmp_path: Path) -> None:
    with pytest.raises(DoneElsewhereError), open_work(tmp_path / "work", member(1, 2)) as work:
        os.rename(tmp_path / "work", tmp_path / "published")
        work.map("squares", square, [Square(5, tmp_path / "log"), Square(6, tmp_path / "log")], label="x")

    assert not (tmp_path / "work").exists() and not (tmp_path / "log").exists()


def test_a_missing_file_is_a_missing_file_while_the_work_goes_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_work(tmp_path / "work", member(0, 2)):
        (tmp_path / "nowhere").read_text()


def test_who_is_at_it_is_known_while_he_is(tmp_path: Path) -> None:
    holders = tmp_path / "work" / "holders"
    with open_work(tmp_path / "work", ALONE):
        [me] = holders.iterdir()
        assert me.name.split("_")[1] == str(os.getpid())
    assert list(holders.iterdir()) == []
