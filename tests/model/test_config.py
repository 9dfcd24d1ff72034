import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from model.config import Architecture, GPTConfig, Sampling, gpt2, parameter_count
from model.heads import CausalLM
from pipeline.errors import ConfigError


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_embd": 100, "n_head": 3}, "model.n_embd must be a multiple of model.n_head, got 100 and 3"),
        ({"n_kv_head": 4}, "model.n_head must be a multiple of model.n_kv_head, got 6 and 4"),
        ({"n_embd": 18}, "model.position is rope, got 18 / 6 = 3"),
        ({"n_layer": 0}, "model.n_layer must be an integer, 1 or more, got 0"),
        ({"intermediate_size": -1}, "model.intermediate_size must be an integer, 1 or more, got -1"),
        ({"dropout": 1.0}, r"model.dropout must be in \[0, 1\), got 1.0"),
        ({"rope_theta": 0.0}, "model.rope_theta must be positive"),
        ({"norm_eps": float("nan")}, "model.norm_eps must be positive, got nan"),
    ],
)
def test_a_bad_architecture_is_refused_by_name_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Architecture(**options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -0.1}, "sampling.temperature must be 0 or more, got -0.1"),
        ({"top_k": 0}, "sampling.top_k must be an integer, 1 or more, got 0"),
        ({"top_p": 0.0}, r"sampling.top_p must be in \(0, 1\], got 0.0"),
        ({"max_new_tokens": 0}, "sampling.max_new_tokens must be an integer, 1 or more, got 0"),
        ({"seed": -1}, "sampling.seed must be an integer, 0 or more, got -1"),
    ],
)
def test_bad_sampling_is_refused_by_name_and_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**options)


def test_a_vocabulary_needs_a_token() -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size must be an integer, 1 or more, got 0"):
        GPTConfig(vocab_size=0)


def test_left_out_sizes_follow_from_the_others() -> None:
    assert Architecture().kv_heads == 6
    assert Architecture(n_kv_head=2).kv_heads == 2
    assert Architecture().head_size == 64
    assert Architecture(n_embd=384).intermediate_channels == 1024
    assert Architecture(n_embd=256, n_head=4).intermediate_channels == 704
    assert Architecture(mlp="gelu").intermediate_channels == 4 * 384
    assert Architecture(intermediate_size=7).intermediate_channels == 7


def test_gpt2_has_the_published_number_of_weights() -> None:
    assert parameter_count(GPTConfig.of(gpt2(), vocab_size=50257)) == 124_439_808


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture(n_head=4, n_kv_head=2, n_embd=32, n_layer=2),
        Architecture(n_head=4, n_embd=32, n_layer=2, qk_norm=False, bias=True, tie_word_embeddings=False),
        Architecture(n_head=4, n_embd=32, n_layer=1, mlp="relu2", norm="layernorm", position="learned"),
        gpt2(n_head=4, n_embd=32, n_layer=2),
    ],
)
def test_the_parameter_count_is_the_networks(architecture: Architecture) -> None:
    config = GPTConfig.of(architecture, vocab_size=50)
    assert parameter_count(config) == sum(weight.numel() for weight in CausalLM(config).parameters())


def test_a_config_keeps_every_field_of_its_architecture() -> None:
    architecture = replace(gpt2(), dropout=0.25)
    config = GPTConfig.of(architecture, vocab_size=9)
    assert all(getattr(config, field.name) == getattr(architecture, field.name) for field in fields(Architecture))


def test_configs_do_without_torch() -> None:
    code = "import sys, model.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
