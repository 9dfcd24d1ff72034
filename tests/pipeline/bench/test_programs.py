"""Programs are run to their end, timed from outside, with the memory of all their processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bench import programs
from pipeline.bench.programs import disk_of, memory_of, run_peer, run_program, run_stage
from pipeline.errors import CairnError, UnavailableError

ROOT = Path(__file__).parents[3]


def test_a_program_is_timed_and_its_memory_is_seen_with_that_of_its_children(tmp_path: Path) -> None:
    child = "import time; data = b'x' * 80_000_000; time.sleep(1.0)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('done')"
    ended = run_program([sys.executable, "-c", code], folder=tmp_path)
    assert ended.last_line == "done"
    assert ended.seconds > 1.0
    assert ended.cpu_seconds > 0
    assert 80e6 < ended.peak_bytes < 500e6


def test_the_most_that_a_folder_took_is_seen(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    code = "import os, time; open('room/a', 'wb').write(b'x' * 5000); time.sleep(0.7); os.remove('room/a')"
    ended = run_program([sys.executable, "-c", code], folder=tmp_path, watched=room)
    assert (ended.peak_disk, disk_of(room)) == (5000, 0)


def test_a_program_that_fails_is_quoted_and_a_peer_that_fails_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CairnError, match=r"ended with 3:\n  it hurts"):
        run_program(
            [sys.executable, "-c", "import sys; print('it hurts', file=sys.stderr); sys.exit(3)"], folder=tmp_path
        )
    with pytest.raises(UnavailableError, match="No such file|can't open file"):
        run_peer("no_such_script", Path(sys.executable), {}, folder=tmp_path / "peer")


def test_the_memory_of_a_process_that_has_ended_is_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_of(process.pid) == 0


def test_variables_are_set_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN", "x")
    code = "import os; print(os.environ.get('TAKEN'), os.environ['SET'], os.getcwd())"

    ended = run_program([sys.executable, "-c", code], folder=tmp_path, environment={"TAKEN": None, "SET": "y"})

    assert ended.last_line == f"None y {tmp_path}"


def test_a_stage_of_ours_is_run_from_anywhere_and_publishes_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\n\nTwo.\n")

    ended = run_stage(
        "pipeline.corpus", "--source", "a.txt", "--workers", "1", store=tmp_path / "store", folder=tmp_path
    )

    kind, _, identity = ended.last_line.partition(":")
    assert (tmp_path / "store" / kind / identity / "manifest.json").exists()
    assert ended.peak_bytes > 10e6 and ended.peak_disk == 0


def test_a_peer_is_given_its_settings_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PEERS", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "peer.py").write_text(
        "import json, os, sys\nprint('noise')\n"
        "print(json.dumps({'settings': json.loads(sys.argv[1]), 'path': os.environ.get('PYTHONPATH'), "
        "'home': os.environ['HF_HOME']}))"
    )

    page = run_peer("peer", Path(sys.executable), {"n": 1}, folder=tmp_path / "room")

    assert (page["settings"], page["path"], page["home"]) == ({"n": 1}, None, str(tmp_path / "room" / "home"))
    assert page["peak_bytes"] >= 0 and page["cpu_seconds"] > 0


def test_a_file_with_two_names_takes_its_disk_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c").write_bytes(b"x" * 10)

    assert disk_of(tmp_path) == 1010
    assert disk_of(tmp_path / "nowhere") == 0
