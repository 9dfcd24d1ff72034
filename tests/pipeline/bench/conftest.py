"""Fixtures of this room: a run of the bench over a small text of one's own."""

import json
from pathlib import Path

import pytest

from pipeline.bench.session import Session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A run over 40 kB of little stories, with folders of its own."""
    text = tmp_path / "mine.jsonl"
    rows = [{"text": f"Story {i}: the fox met {i % 7} hens by the river, and they sat."} for i in range(2000)]
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "scratch").mkdir()
    return Session(tmp_path / "kept", tmp_path / "scratch", 0.04, 1, text)
