"""A stage runs once: what is there is taken, and a long one leaves its status and no work behind."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import DataError, StoppedError
from pipeline.stage.command_line import parse
from pipeline.stage.definition import Job, Stage, stage_of
from pipeline.stage.execution import execute, execute_command
from pipeline.stage.planning import request_of


def shards_again(chain: Any, store: Store, **changes: Any) -> tuple[Stage[Any, Any], tuple[Any, ...]]:
    """Return the stage that made the shards, changed, and what `execute` needs to run it again."""
    stage = dataclasses.replace(stage_of("pipeline.shards"), **changes)
    request, config, inputs = request_of(stage, chain.shards, chain.bench.store)
    return stage, (store, request, config, stage.execution(workers=1), inputs)


def test_what_is_there_is_taken_and_not_made_again(
    chain: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = dataclasses.replace(stage_of("pipeline.shards"), run=lambda job: pytest.fail("it ran"))
    root = str(chain.bench.store.root)
    tokens = str(chain.shards.manifest.recipe.config["shard_tokens"])
    command = parse(stage, ["--store", root, "--shard-tokens", tokens])

    found = execute_command(command, {"corpus": chain.corpus, "tokenizer": chain.tokenizer})

    assert found is not None and found.id == chain.shards.id
    assert f"{found.short} is up to date" in capsys.readouterr().err


def test_a_stage_that_ran_leaves_no_work_behind(shared_chain: Any, tmp_path: Path) -> None:
    stage, rest = shards_again(shared_chain, Store(tmp_path))

    made = execute(stage, *rest)

    assert made is not None and made.digest == shared_chain.shards.digest
    assert list((tmp_path / "runs").iterdir()) == list((tmp_path / "tmp").iterdir()) == []


def test_a_long_stage_says_how_it_ended(shared_chain: Any, tmp_path: Path) -> None:
    def fail(job: Job[Any, Any]) -> None:
        assert job.lease is not None
        assert json.loads((job.run_folder / "status.json").read_text())["state"] == "running"
        raise errors.pop()

    errors = [StoppedError("later"), DataError("a bad row")]
    stage, rest = shards_again(shared_chain, Store(tmp_path), run=fail, launchable=True)
    status = tmp_path / "runs" / shared_chain.shards.id / "status.json"
    ends = []
    for kind in (DataError, StoppedError):
        with pytest.raises(kind):
            execute(stage, *rest)
        ends.append(json.loads(status.read_text()))

    assert ends == [
        {"state": "failed", "exit_code": 65, "message": "a bad row"},
        {"state": "stopped", "exit_code": 75, "message": "later"},
    ]


def test_a_process_of_a_launch_that_is_not_the_first_gets_no_artifact(
    shared_chain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    stage, rest = shards_again(shared_chain, Store(tmp_path), run=lambda job: ran.append(job.lease), launchable=True)
    monkeypatch.setenv("RANK", "1")

    assert execute(stage, *rest) is None
    assert ran == [None] and not (tmp_path / "runs").exists()


def test_what_another_process_published_meanwhile_is_taken(shared_chain: Any, tmp_path: Path) -> None:
    def lose(job: Job[Any, Any]) -> None:
        execute(stage_of("pipeline.shards"), *rest)
        raise FileNotFoundError("the other one cleared up")

    stage, rest = shards_again(shared_chain, Store(tmp_path), run=lose)

    made = execute(stage, *rest)

    assert made is not None and made.digest == shared_chain.shards.digest
