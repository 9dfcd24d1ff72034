"""A store that an earlier version made still opens: see tests/data/README.md."""

from collections.abc import Callable
from functools import partial

import pytest

from model.heads import CausalLM, SequenceClassifier
from model.open import open_language_model, open_model
from pipeline.artifacts.store import Store

Run = Callable[..., str]
NAMES = ["classifier", "corpus", "dialogues", "messages", "pretrain", "pretrain_scores", "shards", "tokenizer"]


@pytest.fixture
def store(old_store: Store) -> Store:
    return old_store


@pytest.fixture
def run(run_in: Callable[..., str], store: Store) -> Run:
    return partial(run_in, store)


def test_every_artifact_is_listed_with_what_is_in_it(run: Run) -> None:
    lines = run("pipeline.artifacts.__main__", "list").splitlines()
    assert [line.split()[1] for line in sorted(lines, key=lambda line: line.split()[1])] == [f"old.{n}" for n in NAMES]
    listed = {line.split()[1].removeprefix("old."): line.split(maxsplit=2)[2] for line in lines}
    assert listed["messages"].endswith("classification examples") and "conversation" in listed["dialogues"]
    assert listed["pretrain"] == "pretrained, 1,380 parameters, 2 steps"
    assert listed["classifier"].startswith("classifier, ") and listed["pretrain_scores"].startswith("bits_per_byte ")


@pytest.mark.parametrize("name", NAMES)
def test_every_artifact_is_shown_as_it_was_asked_with_what_to_type_next(name: str, run: Run, store: Store) -> None:
    shown = run("pipeline.artifacts.__main__", "show", f"old.{name}")
    assert store.find(f"old.{name}").reference in shown and "config:" in shown and "\nnext: python -m " in shown
    assert ('"final_factor": 0.1' in shown) == (name == "pretrain")


def test_every_artifact_is_intact(run: Run) -> None:
    assert run("pipeline.artifacts.__main__", "verify").splitlines()[-1].endswith("8 intact, 0 damaged")


def test_the_lineage_of_an_old_model_goes_down_to_its_sources(run: Run) -> None:
    tree = run("pipeline.artifacts.__main__", "lineage", "old.classifier")
    assert "missing" not in tree and "not in this store" not in tree
    assert {"seasons_stories", "seasons_notes"} <= set(tree.replace(":", " ").split())


def test_an_old_model_continues_a_text(run: Run, store: Store) -> None:
    opened = open_language_model(store.root, "old.pretrain")
    assert opened.purpose == "pretrained"
    assert (opened.module.config.intermediate_size, opened.module.config.tie_word_embeddings) == (8, True)
    assert run("model.generate", "old.pretrain", "In spring", "--max-new-tokens", "5").startswith("In spring")


def test_an_old_model_is_talked_with(run: Run) -> None:
    assert run("model.chat", "old.pretrain", "--message", "What is spring like?", "--max-new-tokens", "5")


def test_an_old_models_score_is_the_old_score(run: Run, store: Store) -> None:
    scored = store.find(run("train.evaluate", "old.pretrain", "--precision", "fp32", "--threads", "1").split()[-1])
    old = store.find("old.pretrain_scores")
    assert scored.facts["purpose"] == old.facts["purpose"] == "pretrained"
    assert scored.facts["scores"] == pytest.approx(old.facts["scores"], rel=1e-5)


def test_an_old_classifier_is_scored_on_old_examples(run: Run, store: Store) -> None:
    module, _ = open_model(store.find("old.classifier"))
    assert isinstance(module, SequenceClassifier) and list(module.labels) == store.find("old.messages").facts["labels"]
    scored = store.find(run("train.evaluate", "old.classifier", "--precision", "fp32", "--threads", "1").split()[-1])
    assert scored.facts["purpose"] == "classifier" and scored.facts["split"] == "test"


@pytest.mark.parametrize("stage, examples", [("train.classify", "messages"), ("train.instruct", "dialogues")])
def test_an_old_model_is_a_base_to_learn_from_old_examples(stage: str, examples: str, run: Run, store: Store) -> None:
    asked = ("--base", "old.pretrain", "--examples", f"old.{examples}", "--max-steps", "1", "--precision", "fp32")
    made = store.find(run(stage, *asked, "--threads", "1").split()[-1])
    assert made.facts["model"]["intermediate_size"] == 8 and "task" not in made.facts
    module, _ = open_model(made)
    assert isinstance(module, CausalLM) == (stage == "train.instruct")
