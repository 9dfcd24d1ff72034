"""An artifact is made again aside and compared, or in its place when it is damaged."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline import shards
from pipeline.errors import ConfigError, IntegrityError
from pipeline.stage.definition import stage_of
from pipeline.stage.rebuild import execution_of, repair, reproduce


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_an_artifact_that_is_made_again_by_one_worker_matches(chain: Any) -> None:
    found = reproduce(chain.shards, chain.bench.store, {"workers": 1})

    assert (found.verdict, found.reference) == ("MATCH", chain.shards.reference)


def test_a_stage_of_another_version_is_not_asked(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dataclasses.replace(shards.STAGE, version=99, run=lambda job: pytest.fail("it ran"))
    monkeypatch.setattr(shards, "STAGE", changed)
    version = chain.shards.manifest.recipe.stage_version

    found = reproduce(chain.shards, chain.bench.store, {})

    assert (found.verdict, found.detail) == ("VERSION DIFFERS", f"stale: made by version {version}; this is version 99")
    damage(chain.shards.payload / "index.json")
    with pytest.raises(IntegrityError, match="cannot be built again as it was: stale: made by version"):
        repair("shards", chain.shards.id, chain.bench.store)
    assert chain.shards.path.exists(), "it stays where it is"


def test_a_damaged_artifact_is_replaced_and_a_whole_one_is_left(chain: Any) -> None:
    assert repair("shards", chain.shards.id, chain.bench.store)[1] is None
    damage(chain.shards.payload / "index.json")

    mended, moved = repair("shards", chain.shards.id, chain.bench.store)

    assert mended.digest == chain.shards.digest and mended.verify(rehash=True) > 0
    assert moved is not None and (moved / "payload" / "index.json").read_bytes().endswith(b"x")


def test_the_execution_stays_in_the_domain_of_the_manifest(shared_chain: Any) -> None:
    determinism = dataclasses.replace(shared_chain.shards.manifest.determinism, domain={"threads": 3, "torch": "2"})
    manifest = dataclasses.replace(shared_chain.shards.manifest, determinism=determinism)
    stage = stage_of("train.pretrain")

    assert execution_of(stage, manifest, {}).threads == 3
    assert execution_of(stage, manifest, {"threads": 1}).threads == 1
    with pytest.raises(ConfigError, match="train.pretrain has no 'torch' to set"):
        execution_of(stage, manifest, {"torch": "3"})


def test_what_no_stage_of_ours_made_does_not_hide_the_others(shared_chain: Any) -> None:
    manifest = shared_chain.shards.manifest
    foreign = dataclasses.replace(manifest, recipe=dataclasses.replace(manifest.recipe, stage="os"))

    found = reproduce(dataclasses.replace(shared_chain.shards, manifest=foreign), shared_chain.bench.store, {})

    assert (found.verdict, found.detail) == ("VERSION DIFFERS", "made by os, which is no stage of this project")
