"""A classifier starts from the base model's backbone and learns the labels of its examples."""

import json
from collections.abc import Callable

import pytest
import torch

from model.heads import CausalLM, SequenceClassifier
from model.open import open_model
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store

SMALL = ("--precision", "fp32", "--threads", "1", "--logging-steps", "1", "--optimizer.name", "adamw")
STILL = ("--max-steps", "1", "--optimizer.learning-rate", "1e-30")


@pytest.fixture
def classify(old_store: Store, run_in: Callable[..., str]) -> Callable[..., Artifact]:
    def run(*arguments: str) -> Artifact:
        asked = ("--base", "old.pretrain", "--examples", "old.messages", *SMALL, *arguments)
        return old_store.find(run_in(old_store, "train.classify", *asked).split()[-1])

    return run


def classifier(artifact: Artifact) -> SequenceClassifier:
    module, _ = open_model(artifact)
    assert isinstance(module, SequenceClassifier)
    return module


def test_it_starts_from_the_backbone_of_the_base_and_a_new_head(
    classify: Callable[..., Artifact], old_store: Store
) -> None:
    base, _ = open_model(old_store.find("old.pretrain"))
    first, other = classifier(classify(*STILL)), classifier(classify(*STILL, "--seed", "1"))
    assert isinstance(base, CausalLM)
    for name, weight in base.backbone.named_parameters():
        assert torch.equal(weight, first.backbone.get_parameter(name)), name
    assert first.score.weight.any() and not torch.equal(first.score.weight, other.score.weight)


def test_its_labels_are_those_of_the_examples(classify: Callable[..., Artifact], old_store: Store) -> None:
    made, labels = classify(*STILL), old_store.find("old.messages").facts["labels"]
    assert made.facts["purpose"] == "classifier" and made.facts["labels"] == labels == ["dry", "wet"]
    assert list(classifier(made).labels) == labels
    assert set(made.facts["validation"]) == {"accuracy", "macro_f1", "majority_accuracy", "majority_macro_f1"}


def test_it_learns_and_counts_rows(classify: Callable[..., Artifact]) -> None:
    made = classify("--max-steps", "60", "--global-batch-examples", "10", "--optimizer.learning-rate", "0.02")
    rows = [json.loads(line) for line in (made.record / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.5 * losses[0] and made.facts["tokens"] == 600
