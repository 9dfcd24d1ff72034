"""The benches of cleaning and capacity: each step's speed, and what a stage takes of the machine."""

import json
from typing import Any

import pytest

from pipeline.bench.cleaning_steps import _stage_rows, _steps, every_step, step_rows
from pipeline.bench.programs import Ended
from pipeline.cleaning.chain import steps_by_name


def test_a_cleaning_step_has_a_row_with_its_speed_and_one_that_is_there_twice_has_one() -> None:
    def entry(step: str, bytes_in: int, documents_in: int, documents_out: int) -> dict[str, Any]:
        page = {"step": step, "bytes_in": bytes_in, "bytes_out": bytes_in}
        return {**page, "documents_in": documents_in, "documents_out": documents_out}

    entries = [entry("exact", 6_000_000, 10, 8), entry("pii", 5_000_000, 8, 8), entry("exact", 4_000_000, 8, 7)]
    rows = step_rows(entries, {"exact": 2.0})
    assert [row.cells()[:2] for row in rows] == [["step exact", "5"], ["step pii", "no time"]]
    assert rows[0].limit == "3 of 10 documents rejected"


def test_what_was_read_is_told_by_what_came_out_of_the_reading() -> None:
    page = {"step": "read", "bytes_in": 9_000_000, "bytes_out": 3_000_000, "documents_in": 5, "documents_out": 5}

    [row] = step_rows([page], {"read": 1.5})

    assert (row.ours, row.unit) == (2.0, "MB/s per core")


def test_the_steps_of_a_corpus_have_their_seconds_from_its_record(chain: Any) -> None:
    page = {"read": 2.0, "line_ends": 4.0, "unicode": 0.0}
    (chain.corpus.record / "steps_seconds.json").chmod(0o644)
    (chain.corpus.record / "steps_seconds.json").write_text(json.dumps(page))

    rows = {row.name: row.ours for row in _steps(chain.corpus)}

    assert rows["step line_ends"] == pytest.approx(rows["step read"] / 2) and rows["step read"] > 0
    assert rows["step unicode"] is rows["step exact_documents"] is None, "without seconds there is no speed"


def test_every_step_that_needs_to_be_told_nothing_is_measured() -> None:
    assert set(every_step()) == set(steps_by_name()) - {"decontaminate"}


def test_a_stage_is_held_to_a_gigabyte_and_its_disk_is_counted_by_the_byte_of_text() -> None:
    ended = Ended(seconds=2.0, cpu_seconds=1.0, peak_bytes=1_100_000_000, peak_disk=5000, out="")

    speed, memory, during, after = _stage_rows("corpus", 1000, ended, before=1000, after=3000)

    assert (speed.ours, memory.ours, memory.met) == (1000 / 1e6 / 2, 1100.0, False)
    assert (during.ours, after.ours) == (4.0, 2.0)
