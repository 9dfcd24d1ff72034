"""An artifact's README is made from its manifest alone, and `datasets` opens what it names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.card import render_card
from pipeline.artifacts.manifest import CARD, License
from pipeline.artifacts.store import Store

FILES = {"train-00000-of-00001.arrow": "a", "test-00000-of-00001.arrow": "b", "rejects-00000-of-00001.arrow": "c"}


def front(card: str) -> dict[str, Any]:
    """Return the front matter."""
    page: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return page


@pytest.fixture
def artifact(publish: Callable[..., Artifact], tmp_path: Path) -> Artifact:
    """Two splits and some rejects."""
    return publish(Store(tmp_path / "store"), {**FILES, "steps.json": "[]"})


def test_the_card_beside_an_artifact_is_that_of_its_manifest(artifact: Artifact) -> None:
    assert (artifact.path / CARD).read_text(encoding="utf-8") == render_card(artifact.manifest)


def test_the_splits_that_are_there_are_one_configuration_and_the_rejects_another(artifact: Artifact) -> None:
    default, rejects = front(render_card(artifact.manifest))["configs"]

    assert (default["config_name"], default["default"]) == ("default", True)
    assert default["data_files"] == [
        {"split": "train", "path": "payload/train-*.arrow"},
        {"split": "test", "path": "payload/test-*.arrow"},
    ]
    assert rejects == {
        "config_name": "rejects",
        "data_files": [{"split": "rejects", "path": "payload/rejects-*.arrow"}],
    }


def test_what_has_no_rows_has_no_configuration(publish: Callable[..., Artifact], tmp_path: Path) -> None:
    model = publish(Store(tmp_path), {"model.safetensors": "x", "train-notes.txt": "x"})

    assert front(render_card(model.manifest)) == {"license": []}


def test_licences_are_named_once_and_every_attribution_is_there(artifact: Artifact) -> None:
    entries = [("a", "mit", "by A"), ("b", "cc0-1.0", 'by B: "x"'), ("c", "mit", "by C")]
    licenses = tuple(License(source=name, license=license, attribution=by) for name, license, by in entries)

    one = render_card(replace(artifact.manifest, licenses=licenses[:1]))
    three = render_card(replace(artifact.manifest, licenses=licenses))

    assert front(one)["license"] == "mit" and front(three)["license"] == ["cc0-1.0", "mit"]
    assert "## Licences and attribution" not in render_card(artifact.manifest)
    for name, license, by in entries:
        assert f"- {name} ({license}): {by}\n" in three


def test_a_card_says_what_it_was_made_of_and_what_is_in_it(chain: Any) -> None:
    corpus, shards = render_card(chain.corpus.manifest), render_card(chain.shards.manifest)

    assert shards.split("---\n")[2].startswith(f"\n# shards {chain.shards.id[:12]}\n")
    assert f"Made by `pipeline.shards` (version {chain.shards.manifest.recipe.stage_version})" in shards
    assert f"digest `{chain.shards.digest[:12]}`" in shards
    assert f"- corpus: `corpus:{chain.corpus.id[:12]}`\n- tokenizer: `tokenizer:{chain.tokenizer.id[:12]}`\n" in shards
    assert f"- layout: {chain.shards.facts['layout']}\n" in shards
    [source] = chain.corpus.manifest.recipe.config["sources"]
    assert f"- {source['name']}: {source['location']}\n" in corpus and "## Counts" in corpus
