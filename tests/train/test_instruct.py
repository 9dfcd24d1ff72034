"""An assistant goes on from the base model, and learns what the assistant says and nothing else."""

import json
from collections.abc import Callable

import pytest
import torch

from model.open import open_model
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.tables.arrow import read_batch

SMALL = ("--precision", "fp32", "--threads", "1", "--logging-steps", "1", "--optimizer.name", "adamw")


@pytest.fixture
def instruct(old_store: Store, run_in: Callable[..., str]) -> Callable[..., Artifact]:
    def run(*arguments: str) -> Artifact:
        asked = ("--base", "old.pretrain", "--examples", "old.dialogues", *SMALL, *arguments)
        return old_store.find(run_in(old_store, "train.instruct", *asked).split()[-1])

    return run


def test_it_starts_from_all_weights_of_the_base(instruct: Callable[..., Artifact], old_store: Store) -> None:
    base, _ = open_model(old_store.find("old.pretrain"))
    made = instruct("--max-steps", "1", "--optimizer.learning-rate", "1e-30")
    module, _ = open_model(made)
    assert made.facts["purpose"] == "assistant" and module.state_dict().keys() == base.state_dict().keys()
    for name, weight in base.state_dict().items():
        assert torch.equal(weight, module.state_dict()[name]), name


def test_its_targets_are_the_tokens_that_the_assistant_says(
    instruct: Callable[..., Artifact], old_store: Store
) -> None:
    rows = [row for path in old_store.find("old.dialogues").files("train-") for row in read_batch(path).to_pylist()]
    said = sum(sum(row["loss_mask"]) for row in rows)
    made = instruct("--epochs", "2", "--global-batch-examples", str(len(rows)))
    assert 0 < said < sum(len(row["input_ids"]) for row in rows)
    assert (made.facts["steps"], made.facts["tokens"]) == (2, 2 * said)


def test_it_learns_and_shows_a_reply_to_a_held_out_prompt(instruct: Callable[..., Artifact], old_store: Store) -> None:
    made = instruct("--max-steps", "60", "--global-batch-examples", "5", "--optimizer.learning-rate", "0.02")
    rows = [json.loads(line) for line in (made.record / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    encoder = open_model(made)[1]
    held_out = read_batch(old_store.find("old.dialogues").files("validation-")[0]).to_pylist()[0]
    first = held_out["loss_mask"].index(1)
    assert rows[-1]["sample"].startswith(f"{encoder.decode(held_out['input_ids'][:first])} -> ")
