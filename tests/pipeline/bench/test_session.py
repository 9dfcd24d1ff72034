"""What a bench asks for is made once, of the text that was asked for."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import mixed_text
from pipeline.bench import session as session_module
from pipeline.bench.environments import Environment
from pipeline.bench.session import Session


def test_the_text_is_ones_own_up_to_the_size_asked_for(session: Any) -> None:
    assert 39_000 < session.text_bytes <= 40_000
    assert session.text.parent == session.folder / "text"
    assert next(mixed_text.texts_of(session.text)).startswith("Story 0")


def test_a_small_text_is_the_shipped_one_and_a_large_one_the_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_text, "mixed_text", lambda folder, megabytes: folder / f"mixed {megabytes}")

    small, large = Session(tmp_path, tmp_path, 0.1, 1), Session(tmp_path, tmp_path, 5.0, 1)

    assert 95_000 < small.text_bytes <= 100_000
    assert large.text == tmp_path / "mixed 5.0"


def test_every_room_is_new_and_empty(session: Any) -> None:
    first, second = session.room("ours"), session.room("ours")

    assert first != second and first.parent == second.parent == session.scratch
    assert list(first.iterdir()) == []


def test_a_store_of_other_code_is_thrown_away(session: Any) -> None:
    old = session.folder / "store-0123456789ab"
    old.mkdir(parents=True)

    store = session.store

    assert not old.exists() and store.root.parent == session.folder
    assert Session(session.folder, session.scratch, 1, 1).store.root == store.root


def test_an_artifact_is_made_by_its_stage_and_found_again(session: Any) -> None:
    corpus = session.corpus

    assert corpus.kind == "corpus" and corpus.path.is_relative_to(session.store.root)
    assert sum(corpus.facts["bytes"].values()) == session.text_bytes
    assert session.make("pipeline.corpus", "--source", str(session.text)).digest == corpus.digest


def test_the_python_of_a_peer_is_kept_beside_the_others(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "python_of", lambda environment, folder: folder / environment.name)

    assert session.python(Environment("a", ())) == session.folder / "environments" / "a"
