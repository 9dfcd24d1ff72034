import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import GPTConfig
from model.gpt import init_weights
from model.heads import CausalLM, SequenceClassifier
from model.storage import load, save
from pipeline.errors import DataError, IntegrityError, MissingError


@pytest.fixture
def folder(tmp_path: Path, tiny_lm: Callable[..., CausalLM]) -> Path:
    save(tiny_lm(), tmp_path)
    return tmp_path


def change_config(folder: Path, **model_fields: object) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["model"] |= model_fields
    (folder / "config.json").write_text(json.dumps(content))


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": False, "n_kv_head": 2}, {"position": "learned"}])
def test_a_language_model_comes_back_as_it_was(
    options: dict[str, object], tmp_path: Path, tiny_lm: Callable[..., CausalLM], ids: Tensor
) -> None:
    model = tiny_lm(**options)
    save(model, tmp_path)
    back = load(tmp_path)
    assert isinstance(back, CausalLM) and back.config == model.config and not back.training
    assert torch.equal(back(ids), model(ids))


def test_a_classifier_comes_back_with_its_labels(
    tmp_path: Path, tiny_config: Callable[..., GPTConfig], ids: Tensor
) -> None:
    model = SequenceClassifier(tiny_config(), ["нет", "yes"])
    init_weights(model, 0)
    save(model, tmp_path)
    back = load(tmp_path)
    assert isinstance(back, SequenceClassifier) and back.labels == ("нет", "yes")
    lengths = torch.tensor([3, 4, 5])
    assert torch.equal(back(ids, lengths), model(ids, lengths))


def test_a_bfloat16_model_stays_bfloat16(tmp_path: Path, tiny_lm: Callable[..., CausalLM]) -> None:
    save(tiny_lm().bfloat16(), tmp_path)
    assert load(tmp_path).backbone.embedding.weight.dtype == torch.bfloat16


def test_the_files_are_plain_readable_and_hold_each_weight_once(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    text = (folder / "config.json").read_text()
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


def test_the_same_weights_give_the_same_bytes(folder: Path) -> None:
    contents = set()
    for _ in range(10):
        save(load(folder), folder)
        contents.add(tuple((folder / name).read_bytes() for name in ("config.json", "model.safetensors")))
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingError, match=name):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_cut_short_is_named(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError, match=name):
        load(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: state.pop("backbone.norm.weight"), "has no tensor backbone.norm.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "has a tensor extra"),
        (
            lambda state: state.update({"backbone.norm.weight": torch.zeros(3)}),
            r"backbone.norm.weight has shape \(3,\), its config.json wants \(32,\)",
        ),
        (
            lambda state: state.update({"backbone.norm.weight": torch.zeros(32, dtype=torch.float64)}),
            "backbone.norm.weight is torch.float64|all must be one of",
        ),
        (lambda state: state["backbone.norm.weight"].fill_(torch.nan), "backbone.norm.weight holds values"),
        (
            lambda state: state["backbone.norm.weight"][:1].fill_(torch.inf),
            "backbone.norm.weight holds values",
        ),
    ],
)
def test_a_tensor_that_does_not_belong_is_named(
    change: Callable[[dict[str, Tensor]], object], message: str, folder: Path
) -> None:
    change_tensors(folder, change)
    with pytest.raises(DataError, match=message) as caught:
        load(folder)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"n_layer": 0}, {"n_head": 3}, {"n_embd": "32"}, {"unheard_of": 1}, {"vocab_size": None}]
)
def test_a_config_that_makes_no_sense_is_bad_data(fields: dict[str, object], folder: Path) -> None:
    change_config(folder, **fields)
    with pytest.raises(DataError, match=r"config\.json does not describe a network"):
        load(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"architecture": "other", "model": {"vocab_size": 5}, "labels": []}'])
def test_a_config_of_something_else_is_bad_data(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json"):
        load(folder)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, tiny_lm: Callable[..., CausalLM]) -> None:
    model = tiny_lm()
    with torch.no_grad():
        model.backbone.norm.weight[0] = torch.nan
    with pytest.raises(DataError, match=r"backbone\.norm\.weight holds values that are not finite"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
