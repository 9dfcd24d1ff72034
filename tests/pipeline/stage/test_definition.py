"""Stages are found by the first line of their modules, and say what their kinds are."""

import dataclasses
import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError
from pipeline.executors.resumable import DoneElsewhereError
from pipeline.stage import definition
from pipeline.stage.definition import Job, describe, next_commands, stage_modules, stage_of, stages_by_kind
from pipeline.stage.planning import request_of


def test_a_module_that_is_no_stage_is_said_to_be_none() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.loading\.windows is not a stage"):
        stage_of("pipeline.loading.windows")


def test_the_stages_are_found_in_their_order_without_importing_any() -> None:
    modules = stage_modules()

    assert modules[:4] == ("pipeline.corpus", "pipeline.tokenizer", "pipeline.shards", "train.pretrain")
    assert {stage_of(module).module for module in modules} == set(modules)
    assert "pipeline.run" not in modules and "pipeline.stage.definition" not in modules


@pytest.mark.parametrize("module", ["os", "pipeline.artifacts.store", "tests.conftest", "pipeline/corpus", ""])
def test_no_other_module_is_imported_as_a_stage_whoever_names_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"{name} was imported"))

    with pytest.raises(ConfigError, match=r"is not a stage of this project; those are pipeline\.corpus"):
        stage_of(module)


def test_every_kind_is_described_by_a_stage_that_makes_it(shared_chain: Any) -> None:
    assert set(stages_by_kind()) >= {"corpus", "tokenizer", "shards", "examples", "model", "evaluation"}
    assert all(stage.kind == kind for kind, stage in stages_by_kind().items())
    assert describe(shared_chain.corpus) == stage_of("pipeline.corpus").summarize(shared_chain.corpus)
    assert next_commands(shared_chain.shards) == [f"python -m train.pretrain --shards {shared_chain.shards.short}"]


def test_what_no_stage_of_ours_makes_is_described_by_its_files(shared_chain: Any) -> None:
    strange = dataclasses.replace(shared_chain.shards.manifest, kind="strange")
    artifact = dataclasses.replace(shared_chain.shards, manifest=strange)

    assert describe(artifact) == f"{len(strange.files)} files"
    assert next_commands(artifact) == [f"python -m pipeline.artifacts lineage {artifact.short}"]


def test_a_job_array_publishes_in_its_first_task_alone(shared_chain: Any, tmp_path: Path) -> None:
    shards = shared_chain.shards
    stage, store = stage_of("pipeline.shards"), Store(tmp_path)
    request, config, inputs = request_of(stage, shards, shared_chain.bench.store)
    execution = stage.execution(task_index=1, num_tasks=2)
    job = Job(
        stage=stage,
        store=store,
        config=config,
        execution=execution,
        inputs=inputs,
        request=request,
        started=time.time(),
    )

    with pytest.raises(DoneElsewhereError), job.draft():
        pytest.fail("a draft was given")
    assert job.run_folder == store.run_folder(shards.id) and not list(tmp_path.glob("shards/*"))


def test_two_stages_of_one_number_are_an_error_that_names_both(tmp_path: Path) -> None:
    for name, number in (("pipeline/a", 1), ("pipeline/b", 2), ("train/c", 2)):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""Stage {number}: make something of something else."""\n')

    with pytest.raises(ConfigError, match=r"pipeline\.b and train\.c both say they are stage 2; train\.c needs a free"):
        definition._numbered_modules(tmp_path)
