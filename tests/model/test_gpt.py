from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention import attend_plain, attend_sdpa
from model.cache import KeyValueCache
from model.config import GPTConfig
from model.gpt import GPT, init_weights
from model.heads import CausalLM, SequenceClassifier

VARIANTS: list[dict[str, Any]] = [
    {},
    {"n_kv_head": 2},
    {"position": "learned", "norm": "layernorm", "mlp": "gelu", "qk_norm": False, "bias": True},
    {"mlp": "relu2", "tie_word_embeddings": False, "bias": True},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_logits_do_not_depend_on_later_tokens(
    options: dict[str, Any], tiny_lm: Callable[..., CausalLM], ids: Tensor
) -> None:
    model = tiny_lm(**options)
    changed = ids.clone()
    changed[:, 10:] = (ids[:, 10:] + 1) % 61
    torch.testing.assert_close(model(ids)[:, :10], model(changed)[:, :10])
    assert not torch.isclose(model(ids)[:, 10:], model(changed)[:, 10:]).all()


@pytest.mark.parametrize("options", VARIANTS)
def test_logits_depend_on_the_order_of_earlier_tokens(
    options: dict[str, Any], tiny_lm: Callable[..., CausalLM]
) -> None:
    model = tiny_lm(**options)
    one, other = model(torch.tensor([[3, 4, 5]])), model(torch.tensor([[4, 3, 5]]))
    assert not torch.isclose(one[0, 2], other[0, 2], atol=1e-3).all()


@pytest.mark.parametrize("kernel", [attend_plain, attend_sdpa])
@pytest.mark.parametrize("options", [variant for variant in VARIANTS if variant.get("position") != "learned"])
def test_a_masked_document_has_the_logits_it_has_alone(
    options: dict[str, Any],
    kernel: Any,
    tiny_lm: Callable[..., CausalLM],
    ids: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rotary positions are relative, so where in a window a document lies does not matter either."""
    monkeypatch.setattr("model.attention.attend", kernel)
    model = tiny_lm(**options)
    lengths = [5, 1, 7, 3]
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).expand(3, -1)
    together = model(ids, document_ids=documents)
    alone = torch.cat([model(part) for part in torch.split(ids, lengths, dim=1)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.isclose(together[:, 5:], model(ids)[:, 5:], atol=1e-3).all()


def test_a_masked_document_does_not_see_the_others_with_learned_positions_either(
    tiny_lm: Callable[..., CausalLM], ids: Tensor
) -> None:
    model = tiny_lm(**VARIANTS[2])
    documents = (torch.arange(16) >= 6).long().expand(3, -1)
    changed = ids.clone()
    changed[:, :6] = (ids[:, :6] + 1) % 61
    one, other = model(ids, document_ids=documents), model(changed, document_ids=documents)
    torch.testing.assert_close(one[:, 6:], other[:, 6:])
    assert not torch.isclose(one[:, :6], other[:, :6]).all()


def test_a_cache_takes_no_documents(tiny_config: Callable[..., GPTConfig]) -> None:
    model, ids = GPT(tiny_config()), torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="a cache holds one document"):
        model(ids, KeyValueCache(tiny_config()), ids)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_weight_gets_a_gradient(options: dict[str, Any], tiny_lm: Callable[..., CausalLM], ids: Tensor) -> None:
    model = tiny_lm(**options)
    model(ids).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if not torch.any(weight.grad)] == []


def test_mixed_precision_stays_near_full_precision(tiny_config: Callable[..., GPTConfig], ids: Tensor) -> None:
    model = CausalLM(tiny_config())
    init_weights(model, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(ids)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), model(ids), rtol=0.05, atol=0.02)


def test_a_text_longer_than_the_context_is_refused(tiny_config: Callable[..., GPTConfig]) -> None:
    with pytest.raises(ValueError, match=r"25 tokens after 0 cached ones do not fit model\.context_length = 24"):
        GPT(tiny_config())(torch.zeros(1, 25, dtype=torch.int64))


def test_dropout_works_in_training_only(tiny_lm: Callable[..., CausalLM], ids: Tensor) -> None:
    model = tiny_lm(dropout=0.5)
    assert torch.equal(model(ids), model(ids))
    torch.testing.assert_close(model(ids), tiny_lm(dropout=0.0)(ids))
    model.train()
    torch.manual_seed(0)
    first = model(ids)
    assert not torch.equal(first, model(ids))
    torch.manual_seed(0)
    assert torch.equal(first, model(ids))


def test_rotary_tables_are_not_stored(tiny_config: Callable[..., GPTConfig]) -> None:
    model = GPT(tiny_config())
    assert dict(model.named_buffers()).keys() == {"rotary_cos", "rotary_sin"}
    assert not any("rotary" in name for name in model.state_dict())


def test_weights_begin_as_the_table_says() -> None:
    model = CausalLM(GPTConfig(vocab_size=500, n_layer=8, n_head=4, n_embd=128, bias=True, tie_word_embeddings=False))
    init_weights(model, seed=1)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert torch.all(weight == (0 if name.endswith("bias") else 1)), name
        else:
            residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            assert weight.std().item() == pytest.approx(0.005 if residual else 0.02, rel=0.05), name
            assert abs(weight.mean().item()) < 1e-3, name


def test_weights_depend_on_the_seed_and_nothing_else(tiny_config: Callable[..., GPTConfig]) -> None:
    first, second, third = (CausalLM(tiny_config()) for _ in range(3))
    init_weights(first, 5)
    before = torch.get_rng_state()
    init_weights(second, 5)
    init_weights(third, 6)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.output_weight, third.output_weight)


def test_another_head_leaves_the_backbones_weights_alone(tiny_config: Callable[..., GPTConfig]) -> None:
    language_model, classifier = CausalLM(tiny_config()), SequenceClassifier(tiny_config(), ["a", "b"])
    init_weights(language_model, 5)
    init_weights(classifier, 5)
    for name, weight in language_model.backbone.named_parameters():
        assert torch.equal(weight, classifier.backbone.get_parameter(name)), name


def test_equal_shapes_do_not_begin_equal(tiny_config: Callable[..., GPTConfig]) -> None:
    model = GPT(tiny_config())
    init_weights(model, 0)
    assert not torch.equal(*(block.attention.qkv.weight for block in model.blocks))
