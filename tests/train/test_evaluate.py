"""An evaluation's scores are those of a direct calculation, on the split that was asked for."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.heads import CausalLM, SequenceClassifier
from model.open import open_model
from pipeline.artifacts.artifact import Artifact
from pipeline.errors import ConfigError, DataError
from pipeline.tables.arrow import read_batch
from train.evaluate import EvaluateConfig, EvaluateExecution, choose_split, infer_data

CLOSE = 0.02
"""relative; tiny is scored in bf16 where the hardware has it, here it is scored in fp32"""


def rows(artifact: Artifact, split: str) -> list[dict[str, Any]]:
    return [row for path in artifact.files(f"{split}-") for row in read_batch(path).to_pylist()]


@torch.inference_mode()
def test_the_scores_of_a_language_model_are_those_of_a_direct_calculation(tiny: Any) -> None:
    module, encoder = open_model(tiny["pretrain"])
    assert isinstance(module, CausalLM)
    stream = [token for row in rows(tiny["shards"], "validation") for token in row["input_ids"]]
    length, losses = module.config.context_length, []
    for start in range(0, len(stream) - 1, length):
        window = torch.tensor([stream[start : start + length + 1]])
        losses.append(F.cross_entropy(module(window[:, :-1])[0], window[0, 1:], reduction="none"))
    loss = torch.cat(losses).double()
    sizes = torch.tensor([len(encoder.token_bytes[token]) for token in stream[1:]])
    scores = tiny["pretrain_scores"].facts["scores"]
    assert scores["loss"] == pytest.approx(float(loss.mean()), rel=CLOSE)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    bits = float(loss[sizes > 0].sum()) / math.log(2) / int(sizes.sum())
    assert scores["bits_per_byte"] == pytest.approx(bits, rel=CLOSE)
    texts = tiny["shards"].facts["bytes"]["validation"] if "bytes" in tiny["shards"].facts else int(sizes.sum())
    assert int(sizes.sum()) == pytest.approx(texts, abs=len(encoder.token_bytes[stream[0]]))


@torch.inference_mode()
def test_the_scores_of_a_classifier_are_those_of_a_direct_calculation(tiny: Any) -> None:
    module, encoder = open_model(tiny["classifier"])
    assert isinstance(module, SequenceClassifier)
    held_out = rows(tiny["messages"], "test")
    hits = 0
    for row in held_out:
        ids = torch.tensor([row["input_ids"]])
        hits += int(module(ids, torch.tensor([ids.shape[1]])).argmax()) == row["label"]
    evaluation = tiny["classifier_scores"]
    assert evaluation.facts["split"] == "test"
    assert evaluation.facts["scores"]["accuracy"] == pytest.approx(hits / len(held_out), abs=2.5 / len(held_out))
    page = evaluation.read_json("metrics.json")
    assert sum(map(sum, page["confusion"])) == len(held_out) and page["labels"] == list(module.labels)
    right = sum(page["confusion"][i][i] for i in range(len(page["labels"])))
    assert evaluation.facts["scores"]["accuracy"] == pytest.approx(right / len(held_out))
    predictions = lines(evaluation)
    assert sum(row["label"] == row["predicted"] for row in predictions) == right
    assert [row["text"] for row in predictions] == [encoder.decode(row["input_ids"]) for row in held_out]


def lines(evaluation: Artifact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in evaluation.file("predictions.jsonl").read_text().splitlines()]


@torch.inference_mode()
def test_an_assistant_is_scored_on_its_replies_alone(tiny: Any) -> None:
    module, _ = open_model(tiny["assistant"])
    total, count = 0.0, 0
    for row in rows(tiny["dialogues"], "validation"):
        ids, mask = torch.tensor(row["input_ids"]), torch.tensor(row["loss_mask"][1:]).bool()
        losses = F.cross_entropy(module(ids[None, :-1])[0], ids[1:], reduction="none")
        total, count = total + float(losses[mask].double().sum()), count + int(mask.sum())
    assert tiny["assistant_scores"].facts["scores"]["loss"] == pytest.approx(total / count, rel=CLOSE)


def test_an_assistants_replies_stand_beside_the_references(tiny: Any) -> None:
    predictions = lines(tiny["assistant_scores"])
    assert len(predictions) == 10
    assert all(set(row) == {"prompt", "reply", "reference"} and row["reference"] for row in predictions)
    assert any(row["reply"] for row in predictions)
    assert not any("<|" in row["reply"] for row in predictions)


def data(kind: str, *splits: str) -> Any:
    key = "documents" if kind == "shards" else "examples"
    return SimpleNamespace(kind=kind, short=f"{kind}:0123", facts={key: dict.fromkeys(splits, 5)})


def test_the_test_split_is_chosen_where_there_is_one() -> None:
    assert choose_split("auto", data("examples", "train", "validation", "test")) == "test"
    assert choose_split("auto", data("shards", "train", "validation")) == "validation"
    assert choose_split("validation", data("examples", "train", "validation", "test")) == "validation"


def test_a_split_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(DataError, match="has no test split; it has train, validation"):
        choose_split("test", data("shards", "train", "validation"))


def test_a_model_is_scored_on_the_held_out_part_of_what_it_learned_from(tiny: Any) -> None:
    for model, role, source in (
        ("pretrain", "shards", "shards"),
        ("classifier", "examples", "messages"),
        ("assistant", "examples", "dialogues"),
    ):
        assert infer_data({"model": tiny[model]}, tiny.store)[role].id == tiny[source].id


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="replies must not be negative"):
        EvaluateConfig(replies=-1)
    with pytest.raises(ConfigError, match="micro_batch_size must be at least 1"):
        EvaluateExecution(micro_batch_size=0)
