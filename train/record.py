"""Machinery: what a run leaves for people: metrics.jsonl, samples.txt, the loss curve, and a line per log step."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.runtime.console import say
from pipeline.runtime.files import replace_text
from pipeline.runtime.hashing import JSON, Page
from train.checkpoint import read_lines

METRICS, ORDER, SAMPLES, CURVE = "metrics.jsonl", "order.jsonl", "samples.txt", "loss.png"


@dataclass
class Record:
    """The record of one run, kept in its folder; only the main process has one that writes."""

    folder: Path
    max_steps: int
    active: bool
    unit: str = "tok"
    _last: tuple[float, int, int] = field(default=(0.0, 0, 0), init=False)

    def start(self, step: int, tokens: int) -> None:
        """Begin at `step`: what an attempt that was cut off wrote past it is dropped."""
        self._last = (time.monotonic(), step, tokens)
        for path in (self.folder / METRICS, self.folder / ORDER):
            if self.active and path.exists():
                kept = [json.dumps(row) for row in read_lines(path) if row["step"] <= step]
                replace_text(path, "".join(f"{line}\n" for line in kept))

    def training(self, step: int, tokens: int, *, loss: float, learning_rate: float, grad_norm: float) -> None:
        """Log a training step: a row, and a line for the person."""
        now = time.monotonic()
        seconds, steps = max(1e-9, now - self._last[0]), step - self._last[1]
        rate = (tokens - self._last[2]) / seconds
        left = (self.max_steps - step) * seconds / max(1, steps)
        self._last = (now, step, tokens)
        row = {"step": step, "tokens": tokens, "loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm}
        self._write({**row, "tokens_per_second": round(rate)})
        if self.active:
            width = len(str(self.max_steps))
            say(
                f"step {step:{width}d}/{self.max_steps} | loss {loss:.4f} | lr {learning_rate:.2e} | "
                f"{rate:,.0f} {self.unit}/s | {clock(left)} left"
            )

    def evaluation(self, step: int, scores: dict[str, float], sample: str | None) -> None:
        """Log an evaluation: a row, a line, and a sample of text."""
        row = {"step": step, **{f"validation_{name}": value for name, value in scores.items()}}
        self._write(row if sample is None else {**row, "sample": sample})
        if not self.active:
            return
        say(f"step {step} | validation " + " | ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if sample is not None:
            say(f"  sample: {sample[:300]!r}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of this block out of the rate, which is of training alone."""
        begun = time.monotonic()
        yield
        self._last = (self._last[0] + time.monotonic() - begun, *self._last[1:])

    def samples_of(self, step: int, samples: list[int]) -> None:
        """Log which samples a step was made of."""
        if self.active:
            with (self.folder / ORDER).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "samples": samples}) + "\n")

    def publish(self, target: Path) -> None:
        """Copy the record beside a published model, with the curve drawn."""
        for name in (METRICS, ORDER):
            if (self.folder / name).exists():
                (target / name).write_bytes((self.folder / name).read_bytes())
        rows = list(read_lines(self.folder / METRICS))
        samples = [f"--- step {row['step']}\n{row['sample']}\n" for row in rows if "sample" in row]
        if samples:
            (target / SAMPLES).write_text("".join(samples), encoding="utf-8")
        draw_curve(rows, target / CURVE)

    def _write(self, row: JSON) -> None:
        if self.active:
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def draw_curve(rows: list[Page], path: Path) -> None:
    """Draw training and validation loss over steps as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120)
    axes = figure.subplots()
    for key, label, style in (("loss", "training", "-"), ("validation_loss", "validation", "o-")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4, linewidth=1.2)
            axes.legend()
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per target)")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
