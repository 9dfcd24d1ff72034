"""What the peers report is comparable with ours; their scripts load this module by its bare name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bench.peers import measuring
from pipeline.bench.text_to_shards import _documents, document_hashes


def test_settings_are_the_first_argument_and_the_report_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measuring.sys, "argv", ["peer.py", '{"text": "a\\nb"}'])
    assert measuring.settings() == {"text": "a\nb"}

    measuring.report(seconds=1.5, way="a\nb")

    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"seconds": 1.5, "way": "a\nb"}


def test_the_hashes_of_a_peers_documents_are_those_of_the_same_shards(shared_chain: Any, tmp_path: Path) -> None:
    shards = shared_chain.shards
    tokens = np.array([i for split in shards.facts["documents"] for ids in _documents(shards, split) for i in ids])

    measuring.write_documents(tokens.astype(np.uint16), shards.facts["end_of_text"], tmp_path / "hashes")

    data = (tmp_path / "hashes").read_bytes()
    theirs = [data[i : i + 8] for i in range(0, len(data), 8)]
    assert theirs == sorted(document_hashes(shards).elements())


def test_a_row_is_known_when_it_is_one_of_the_file_at_its_place() -> None:
    tokens = np.arange(10, dtype=np.uint16)

    known = measuring.known_rows(tokens, 3)

    assert len(known) == 3
    assert hash(tokens[3:6].tobytes()) in known and hash(tokens[1:4].tobytes()) not in known


def test_a_pace_counts_at_least_three_batches_after_the_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 0.2, 10.0, 11.0, 12.0, 13.0, 14.0])  # three looks while warming up, the start, four looks
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    drawn: list[int] = []

    pace = measuring.pace(lambda: drawn.append(1), 1_000_000, seconds=1.0)

    assert len(drawn) == 1 + 3 and pace == 3 / 4


def test_batches_go_on_after_the_last_of_an_epoch() -> None:
    batches = measuring.endless(lambda: [1, 2])

    assert [next(batches) for _ in range(5)] == [1, 2, 1, 2, 1]
