"""Opening a model: what it is, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.heads import CausalLM, SequenceClassifier
from model.open import open_language_model, open_model
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import DataError, IntegrityError, MissingError


def test_a_model_is_opened_with_the_encoder_it_was_trained_with(tiny: Any) -> None:
    opened = open_language_model(tiny.store.root, "tiny.pretrain")
    assert isinstance(opened.module, CausalLM) and not opened.module.training
    assert opened.purpose == "pretrained" and opened.artifact.id == tiny["pretrain"].id
    assert opened.module.config.vocab_size == opened.encoder.vocab_size == tiny["tokenizer"].facts["vocab_size"]
    assert opened.encoder.decode(opened.encoder.encode("An oak.")) == "An oak."


@pytest.mark.parametrize("step, purpose", [("pretrain", "pretrained"), ("assistant", "assistant")])
def test_a_model_knows_what_it_was_trained_for(step: str, purpose: str, tiny: Any) -> None:
    assert open_language_model(tiny.store.root, tiny[step].reference).purpose == purpose


def test_a_model_outside_the_store_is_opened_by_its_path(tiny: Any, tmp_path: Path) -> None:
    assert open_language_model(tmp_path / "empty", str(tiny["pretrain"].path)).artifact.id == tiny["pretrain"].id


def test_a_classifier_is_opened_with_its_labels_but_is_no_language_model(tiny: Any) -> None:
    module, _ = open_model(tiny["classifier"])
    assert isinstance(module, SequenceClassifier) and list(module.labels) == tiny["messages"].facts["labels"]
    with pytest.raises(DataError, match="is a classifier and cannot write text") as caught:
        open_language_model(tiny.store.root, "tiny.classifier")
    assert caught.value.exit_code == 65


def test_what_is_not_a_model_is_refused(tiny: Any) -> None:
    with pytest.raises(DataError, match="is not a model"):
        open_model(tiny["shards"])


def test_a_name_that_nobody_gave_is_missing(tiny: Any) -> None:
    with pytest.raises(MissingError, match=r"tiny\.pretrain"):
        open_language_model(tiny.store.root, "tiny.pretrained")


@pytest.fixture
def copied(tiny: Any, tmp_path: Path) -> Artifact:
    """A copy of tiny's base model that a test may damage."""
    folder = shutil.copytree(tiny["pretrain"].path, tmp_path / "model")
    return Store(tmp_path).open(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_every_file_is_checked_before_it_is_used(name: str, copied: Artifact) -> None:
    path = copied.payload / name
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-2] + b" " + content[-1:])
    with pytest.raises(IntegrityError, match=name):
        open_model(copied)


def test_the_payload_says_what_the_facts_say(tiny: Any) -> None:
    page = json.loads((tiny["pretrain"].payload / "config.json").read_text())
    assert page["model"] == tiny["pretrain"].facts["model"] and page["architecture"] == "causal_lm"
