"""How long a run is, and what a published model says of itself."""

import json
from typing import Any

import pytest
from safetensors.torch import load_file

from model.config import GPTConfig, parameter_count


@pytest.mark.parametrize(
    "step, purpose, labels",
    [("pretrain", "pretrained", 0), ("classifier", "classifier", 2), ("assistant", "assistant", 0)],
)
def test_a_model_says_what_it_is(step: str, purpose: str, labels: int, tiny: Any) -> None:
    facts = tiny[step].facts
    weights = load_file(tiny[step].file("model.safetensors"))
    assert facts["purpose"] == purpose and len(facts["labels"]) == labels
    assert facts["parameters"] == sum(tensor.numel() for tensor in weights.values())
    head = labels * facts["model"]["n_embd"]
    assert facts["parameters"] == parameter_count(GPTConfig(**facts["model"])) + head
    assert facts["tokenizer_digest"] == tiny["tokenizer"].digest
    assert facts["vocab_size"] == tiny["tokenizer"].facts["vocab_size"]


@pytest.mark.parametrize("step", ["pretrain", "classifier", "assistant"])
def test_a_model_carries_its_tokenizer_and_the_record_of_its_training(step: str, tiny: Any) -> None:
    model = tiny[step]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert model.file(name).read_bytes() == tiny["tokenizer"].file(name).read_bytes()
    rows = [json.loads(line) for line in (model.record / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == model.facts["steps"]
    assert (model.record / "loss.png").read_bytes().startswith(b"\x89PNG")
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)


def test_the_scores_in_the_facts_are_those_of_the_last_evaluation(tiny: Any) -> None:
    model = tiny["pretrain"]
    rows = [json.loads(line) for line in (model.record / "metrics.jsonl").read_text().splitlines()]
    last = {key: value for key, value in rows[-1].items() if key.startswith("validation_")}
    logged = {key.removeprefix("validation_"): value for key, value in last.items()}
    assert model.facts["validation"] == logged
    scored = tiny["pretrain_scores"].facts["scores"]
    assert scored == pytest.approx(logged, rel=1e-3), "train.evaluate finds what training found"


def test_the_domain_names_all_that_can_move_a_rounding(tiny: Any) -> None:
    domain = tiny["pretrain"].manifest.determinism.domain
    assert set(domain) >= {"device", "processor", "torch", "threads", "world_size", "micro_batch_size", "precision"}
