"""What does not belong together is refused before anything is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.store import Store
from pipeline.errors import ConfigError, DataError
from pipeline.runtime.settings import build
from train.finetune import FinetuneConfig, open_base
from train.training import check_tokenizer, infer_tokenizer


@pytest.fixture
def inputs(tiny: Any) -> Callable[..., dict[str, Artifact]]:
    """Choose the inputs of a fine-tuning stage by the names of tiny's steps."""

    def choose(base: str = "pretrain", examples: str = "messages") -> dict[str, Artifact]:
        return {"base": tiny[base], "examples": tiny[examples], "tokenizer": tiny["tokenizer"]}

    return choose


def test_the_tokenizer_is_the_one_of_the_examples(tiny: Any) -> None:
    found = infer_tokenizer("examples")({"examples": tiny["dialogues"]}, tiny.store)
    assert found["tokenizer"].id == tiny["tokenizer"].id
    assert infer_tokenizer("examples")({"base": tiny["pretrain"]}, tiny.store).keys() == {"base"}


def test_a_base_model_is_opened_with_its_weights_and_the_dropout_asked_for(inputs: Callable[..., Any]) -> None:
    plain, encoder = open_base(inputs(), FinetuneConfig(), "classification")
    dropped, _ = open_base(inputs(), FinetuneConfig(dropout=0.1), "classification")
    assert (plain.config.dropout, dropped.config.dropout) == (0.0, 0.1)
    assert torch.equal(plain.output_weight, dropped.output_weight)
    assert encoder.vocab_size == plain.config.vocab_size


@pytest.mark.parametrize("examples, example_type", [("messages", "conversation"), ("dialogues", "classification")])
def test_examples_of_the_other_type_are_refused(inputs: Callable[..., Any], examples: str, example_type: str) -> None:
    with pytest.raises(DataError, match=f"and {example_type} examples are needed"):
        open_base(inputs(examples=examples), FinetuneConfig(), example_type)


def test_a_classifier_is_no_base(inputs: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="is a classifier; fine-tuning starts from a language model"):
        open_base(inputs(base="classifier"), FinetuneConfig(), "classification")


def test_ids_of_two_tokenizers_never_mix(tiny: Any, program: Callable[..., Any], tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text("\n\n".join(f"Another text, number {i}, with words of its own." for i in range(200)))
    made = {}
    for kind, arguments in {
        "corpus": ["pipeline.corpus", "--source", str(text)],
        "tokenizer": ["pipeline.tokenizer", "--vocab-size", "300", "--corpus", "{corpus}"],
    }.items():
        ended = program("-m", *(argument.format(**made) for argument in arguments))
        assert ended.code == 0, ended.err
        made[kind] = ended.out.split()[-1]
    other = Store(tmp_path / "store").find(made["tokenizer"])
    with pytest.raises(ConfigError, match=f"{tiny['pretrain'].short} was made with another tokenizer than"):
        check_tokenizer(other, tiny["pretrain"])
    own = tiny["tokenizer"]
    assert check_tokenizer(own, tiny["pretrain"], tiny["messages"]) is own


def test_a_global_batch_holds_at_least_one_example() -> None:
    with pytest.raises(ConfigError, match="global_batch_examples must be at least 1"):
        FinetuneConfig(global_batch_examples=0)


@pytest.mark.parametrize("table", [{"warmup_steps": 5}, {"min_lr_ratio": 0.5, "beta2": 0.99}])
def test_a_table_of_a_few_settings_keeps_the_other_defaults_of_fine_tuning(table: dict[str, Any]) -> None:
    own = FinetuneConfig().optimizer
    assert (own.name, own.learning_rate, own.weight_decay) == ("adamw", 5e-4, 0.01)
    assert build(FinetuneConfig, {"optimizer": table}, "classifier").optimizer == replace(own, **table)
