"""The bench of windows: the peers' file holds our tokens in order, and a row that differs is seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bench import drawing
from pipeline.bench.drawing import _check, _contestant, _open, _pace, _resume, _rows, _write_tokens
from pipeline.bench.environments import NANOGPT
from pipeline.bench.figures import Measured
from pipeline.errors import IntegrityError
from pipeline.tables.arrow import read_batch


def test_the_flat_file_is_the_train_split_in_order(shared_chain: Any, tmp_path: Path) -> None:
    path, dtype = _write_tokens(shared_chain.shards, tmp_path / "tokens.bin")

    shards = shared_chain.shards.files("train-")
    rows = [row["input_ids"] for shard in shards for row in read_batch(shard).to_pylist()]
    assert np.fromfile(path, dtype=dtype).tolist() == [token for row in rows for token in row]


def test_our_windows_are_those_of_the_flat_file_and_one_other_token_is_found(shared_chain: Any, tmp_path: Path) -> None:
    order, windows = _open(shared_chain.shards)
    path, dtype = _write_tokens(shared_chain.shards, tmp_path / "tokens.bin")
    _check(order, windows, path, dtype)
    tokens = np.fromfile(path, dtype=dtype)
    tokens[3000] ^= 1
    tokens.tofile(path)

    with pytest.raises(IntegrityError, match="not those of their tokens in order"):
        _check(order, windows, path, dtype)


def test_a_pace_is_measured_for_the_seconds_asked_for(shared_chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_SECONDS", 0.05)

    assert _pace(*_open(shared_chain.shards)) > 0


def test_a_peer_whose_rows_are_not_in_the_shards_is_no_figure(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"pace": 3.0, "rows_known": True}, {"pace": 9.0, "rows_known": False}])
    monkeypatch.setattr(drawing, "run_peer", lambda *arguments, **options: next(answers))
    monkeypatch.setattr(type(session), "python", lambda self, environment: Path("python"))
    draw = _contestant(session, "nanogpt_windows", NANOGPT, {})

    assert draw().value == 3.0
    with pytest.raises(IntegrityError, match="nanogpt_windows draws rows that are not in the shards"):
        draw()


def test_ours_is_held_against_the_best_of_the_loaders_and_against_nanogpt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "widening", lambda: 1000.0)
    runs = {"ours": [Measured(value=100.0)], "nanoGPT's get_batch": [Measured(value=9.0)]}
    runs |= {"datasets": [Measured(value=50.0, about={"way": "arrow"})], "litdata": [Measured(value=20.0)]}

    rows = {row.peer: row for row in _rows(runs)}

    assert rows["nanoGPT's get_batch"].met is True
    assert rows["datasets (arrow)"].met is False, "the best of the others: 2 times is not 3"
    assert rows["litdata"].bound is None and rows["mosaicml-streaming"].ratio is None


def test_the_first_batch_is_timed_at_the_start_and_far_on(shared_chain: Any) -> None:
    [row] = _resume(shared_chain.shards)

    assert row.ours and row.peer_value and row.bound is not None and row.bound.number == 2.0
