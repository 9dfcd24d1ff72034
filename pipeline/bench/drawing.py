"""Machinery: the bench `windows`: random windows of tokens from published shards, against the loaders of others."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.artifact import Artifact
from pipeline.bench.environments import LITDATA, NANOGPT, STREAMING, Environment
from pipeline.bench.figures import Bound, Measured, Row, alternate, median, show
from pipeline.bench.machine import widening
from pipeline.bench.programs import run_peer
from pipeline.bench.session import Session
from pipeline.errors import IntegrityError
from pipeline.runtime.hashing import Page

if TYPE_CHECKING:
    from pipeline.loading.order import Order
    from pipeline.loading.windows import Windows

_CONTEXT, _BATCH = 1024, 32
_SECONDS = 2.0
_FAR = 10**9
_PEERS: tuple[tuple[str, str, Environment], ...] = (
    ("nanoGPT's get_batch", "nanogpt_windows", NANOGPT),
    ("datasets", "datasets_windows", NANOGPT),
    ("litdata", "litdata_windows", LITDATA),
    ("mosaicml-streaming", "streaming_windows", STREAMING),
)
_OTHERS = tuple(name for name, _, _ in _PEERS[1:])


def run(session: Session) -> list[Row]:
    """Draw batches of 32 windows of 1,024 tokens for some seconds, each loader in turn."""
    room = session.room("tokens")
    tokens, dtype = _write_tokens(session.shards, room / "tokens.bin")
    settings: Page = {"tokens": str(tokens), "dtype": dtype, "length": _CONTEXT + 1, "batch": _BATCH, "kept": str(room)}
    settings["seconds"] = _SECONDS
    order, windows = _open(session.shards)
    _check(order, windows, tokens, dtype)
    contestants: dict[str, Callable[[], Measured]] = {"ours": lambda: Measured(value=_pace(order, windows))}
    for name, script, environment in _PEERS:
        contestants[name] = _contestant(session, script, environment, settings)
    runs = alternate(contestants, session.repeats)
    return [*_rows(runs), *_resume(session.shards)]


def _contestant(session: Session, script: str, environment: Environment, settings: Page) -> Callable[[], Measured]:
    def draw() -> Measured:
        page = run_peer(script, session.python(environment), settings, folder=session.room(script))
        if not page["rows_known"]:
            raise IntegrityError(f"{script} draws rows that are not in the shards.")
        return Measured(value=page["pace"], about=page)

    return draw


def _rows(runs: dict[str, list[Measured]]) -> list[Row]:
    machine = f"machine widens {show(widening())} M tokens/s in order"
    name, unit = "windows of 1,024, batch 32", "M tokens/s"
    ours = median(runs["ours"])
    best = max((peer for peer in _OTHERS if peer in runs), key=lambda peer: median(runs[peer]) or 0, default=None)
    rows = []
    for peer, _, _ in _PEERS:
        value = median(runs.get(peer))
        bound = Bound("ratio", ">=", 10.0) if peer not in _OTHERS else None
        if peer == best:
            bound = Bound("ratio", ">=", 3.0)
        label = f"{peer} ({runs[peer][0].about['way']})" if peer in runs and "way" in runs[peer][0].about else peer
        rows.append(Row(name=name, ours=ours, unit=unit, peer=label, peer_value=value, bound=bound, machine=machine))
    return rows


# --- ours ----------------------------------------------------------------------------------------------------


def _open(shards: Artifact) -> "tuple[Order, Windows]":
    """Open the train split as training does: windows side by side, in the order of a seed."""
    from pipeline.loading.order import Order
    from pipeline.loading.windows import TokenStream, Windows

    windows = Windows(TokenStream.of(shards, "train"), _CONTEXT, _CONTEXT)
    return Order(len(windows), seed=0), windows


def _pace(order: "Order", windows: "Windows") -> float:
    """Return M tokens/s: the samples of a position, and their rows as 64-bit ids."""
    position, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        windows.gather(order.at(position, _BATCH))
        position += _BATCH
    return position * _CONTEXT / elapsed / 1e6


def _check(order: "Order", windows: "Windows", tokens: Path, dtype: str) -> None:
    """Hold an epoch's first rows against the flat file that the peers read; IntegrityError when one differs."""
    import numpy as np

    flat = np.memmap(tokens, dtype=dtype, mode="r")
    samples = order.at(0, min(4096, len(windows)))
    for start in range(0, len(samples), _BATCH):
        part = samples[start : start + _BATCH]
        expected = [flat[i * _CONTEXT : i * _CONTEXT + _CONTEXT + 1] for i in part.tolist()]
        if not np.array_equal(windows.gather(part), np.stack(expected).astype(np.int64)):
            raise IntegrityError("the windows of the shards are not those of their tokens in order.")


def _write_tokens(shards: Artifact, path: Path) -> tuple[Path, str]:
    """Write the train split as one flat file, for the peers."""
    from pipeline.tables.arrow import read_batch, values_of

    with path.open("wb") as out:
        for shard in shards.files("train-"):
            out.write(values_of(read_batch(shard).column("input_ids").values).tobytes())
    return path, str(shards.facts["dtype"])


def _resume(shards: Artifact) -> list[Row]:
    """Measure the time from opened shards to the first batch, at the start and after 10^9 samples."""

    def first_batch(position: int) -> float:
        times = []
        for attempt in range(9):
            order, windows = _open(shards)
            started = time.perf_counter()
            windows.gather(order.at(position + attempt * 10**6, _BATCH))
            times.append(time.perf_counter() - started)
        return sorted(times)[4] * 1e3

    start, far = first_batch(0), first_batch(_FAR)
    return [
        Row(
            name="first batch at position 10^9",
            ours=far,
            unit="ms",
            peer="ours, at position 0",
            peer_value=start,
            bound=Bound("ratio", "<=", 2.0),
        )
    ]
