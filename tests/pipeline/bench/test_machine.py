"""What this machine can do at most is measured, and leaves nothing behind."""

import json
from pathlib import Path

import pytest

from pipeline.bench import machine
from pipeline.bench.machine import conditions, hashing, limits_of, reading, widening, writing


def test_what_the_machine_can_do_is_measured_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(bytes(2**21))
    assert reading(path) > 0 and hashing([path]) > 0
    assert writing(tmp_path, 2**20) > 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_rate_is_the_best_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    done: list[int] = []

    assert machine._rate(6 * 10**6, lambda: done.append(1)) == 3.0
    assert len(done) == 3


def test_tokens_are_widened_at_some_speed() -> None:
    assert widening(2**16) > 0


def test_the_limits_are_a_sentence_for_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("reading", 3000.0), ("hashing", 1234.0), ("writing", 56.7)):
        monkeypatch.setattr(machine, name, lambda *_, value=value: value)

    assert limits_of(tmp_path / "a", tmp_path) == "machine reads 3,000, hashes 1,234, writes 56.7 MB/s"


def test_the_conditions_of_a_run_are_json() -> None:
    page = json.loads(json.dumps(conditions()))

    assert page["processors"] >= 1 and len(page["load"]) == 3 and page["packages"]["numpy"][0].isdigit()
