"""What a run leaves for people: rows, lines, samples of text, a curve."""

import json
from pathlib import Path

import pytest

from train.record import Record, clock, draw_curve


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def log(record: Record, *steps: int) -> None:
    for step in steps:
        record.training(step, 100 * step, loss=5.0 / step, learning_rate=0.01, grad_norm=1.0)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path, 200, active=True)


def test_a_line_says_step_loss_learning_rate_speed_and_time_left(
    record: Record, capfd: pytest.CaptureFixture[str]
) -> None:
    record.start(0, 0)
    log(record, 10)
    line = capfd.readouterr().err.strip()
    assert line.startswith("step  10/200 | loss 0.5000 | lr 1.00e-02 | ")
    assert "tok/s" in line and line.endswith("left")


def test_what_was_logged_past_the_checkpoint_is_dropped_on_resume(record: Record, tmp_path: Path) -> None:
    record.start(0, 0)
    log(record, 1, 2, 3, 4)
    record.samples_of(4, [9])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')
    again = Record(tmp_path, 200, active=True)
    again.start(2, 200)
    log(again, 3)
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    assert rows(tmp_path, "order.jsonl") == []


def test_an_evaluation_is_a_row_a_line_and_a_sample(
    record: Record, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record.start(0, 0)
    record.evaluation(50, {"loss": 2.0, "perplexity": 7.39}, "Once there was")
    row = {"step": 50, "validation_loss": 2.0, "validation_perplexity": 7.39, "sample": "Once there was"}
    assert rows(tmp_path) == [row]
    (tmp_path / "published").mkdir()
    record.publish(tmp_path / "published")
    assert (tmp_path / "published" / "samples.txt").read_text() == "--- step 50\nOnce there was\n"
    assert "step 50 | validation loss 2.0000 | perplexity 7.3900" in capfd.readouterr().err


def test_only_the_main_process_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = Record(tmp_path, 10, active=False)
    record.start(0, 0)
    log(record, 1)
    record.evaluation(1, {"loss": 1.0}, "text")
    record.samples_of(1, [3])
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr().err == ""


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    draw_curve([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "validation_loss": 2.5}], tmp_path / "loss.png")
    with_points = (tmp_path / "loss.png").read_bytes()
    draw_curve([], tmp_path / "empty.png")
    assert with_points[:8] == b"\x89PNG\r\n\x1a\n" and with_points != (tmp_path / "empty.png").read_bytes()


def test_the_record_is_published_beside_the_model(record: Record, tmp_path: Path) -> None:
    record.start(0, 0)
    log(record, 1)
    record.samples_of(1, [4, 2])
    (tmp_path / "out").mkdir()
    record.publish(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["loss.png", "metrics.jsonl", "order.jsonl"]
    assert rows(tmp_path / "out", "order.jsonl") == [{"step": 1, "samples": [4, 2]}]


@pytest.mark.parametrize("seconds, text", [(0, "0:00:00"), (61.4, "0:01:01"), (3599.6, "1:00:00"), (90061, "25:01:01")])
def test_a_duration_is_written_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
