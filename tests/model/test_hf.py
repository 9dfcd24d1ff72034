from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.config import GPTConfig, gpt2
from model.heads import CausalLM
from model.hf import family, from_hf, to_hf
from pipeline.errors import ConfigError, DataError

QWEN3: list[dict[str, Any]] = [
    {},
    {"n_kv_head": 2, "rope_theta": 1e6, "norm_eps": 1e-5},
    {"tie_word_embeddings": False, "n_kv_head": 1, "intermediate_size": 48},
]
GPT2: list[dict[str, Any]] = [{}, {"intermediate_size": 48}, {"tie_word_embeddings": False}]


def gpt2_config(**options: Any) -> GPTConfig:
    sizes = {"context_length": 24, "n_layer": 2, "n_head": 4, "n_embd": 32}
    return GPTConfig.of(gpt2(**(sizes | options)), vocab_size=61)


def transformers_gpt2(config: GPTConfig) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.context_length,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_inner=config.intermediate_channels,
        layer_norm_epsilon=config.norm_eps,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(theirs).eval()


def transformers_qwen3(config: GPTConfig) -> nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    theirs = Qwen3Config(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.context_length,
        hidden_size=config.n_embd,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_size,
        intermediate_size=config.intermediate_channels,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=config.tie_word_embeddings,
    )
    return Qwen3ForCausalLM(theirs).eval()


def randomise_all(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator) + (weight == 1))


def check_both_ways(config: GPTConfig, theirs: nn.Module, ids: Tensor) -> None:
    randomise_all(theirs)
    ours = CausalLM(config).eval()
    ours.load_state_dict(from_hf(theirs.state_dict(), config))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)
    back = to_hf(ours.state_dict(), config)
    left_out = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert set(theirs.state_dict()) - left_out == set(back)
    assert all(torch.equal(theirs.state_dict()[name], tensor) for name, tensor in back.items())


@pytest.mark.parametrize("options", GPT2)
def test_logits_are_those_of_gpt2_in_transformers(options: dict[str, Any], ids: Tensor) -> None:
    config = gpt2_config(**options)
    check_both_ways(config, transformers_gpt2(config), ids)


@pytest.mark.parametrize("options", QWEN3)
def test_logits_are_those_of_qwen3_in_transformers(
    options: dict[str, Any], tiny_config: Callable[..., GPTConfig], ids: Tensor
) -> None:
    config = tiny_config(**options)
    check_both_ways(config, transformers_qwen3(config), ids)


@pytest.mark.parametrize("config", [gpt2_config(), GPTConfig(vocab_size=9, n_layer=1, n_kv_head=2)])
def test_there_and_back_is_the_same_weights(config: GPTConfig) -> None:
    state = CausalLM(config).state_dict()
    back = from_hf(to_hf(state, config), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("options", [{"mlp": "relu2"}, {"bias": True}, {"position": "learned"}])
def test_a_network_transformers_does_not_know_is_refused(
    options: dict[str, Any], tiny_config: Callable[..., GPTConfig]
) -> None:
    with pytest.raises(ConfigError, match="gpt2 and qwen3 are known"):
        family(tiny_config(**options))


def test_missing_and_unknown_tensors_are_named(tiny_config: Callable[..., GPTConfig]) -> None:
    config = tiny_config()
    state = to_hf(CausalLM(config).state_dict(), config)
    with pytest.raises(DataError, match=r"have model\.vision, for which there is no place"):
        from_hf(state | {"model.vision": torch.zeros(1)}, config)
    del state["model.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(DataError, match=r"have no model\.layers\.1\.self_attn\.k_proj\.weight"):
        from_hf(state, config)
