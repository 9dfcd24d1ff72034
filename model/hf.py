"""Machinery: the same weights under the names and layouts of transformers' GPT-2 and Qwen3."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from model.config import GPTConfig
from pipeline.errors import ConfigError, DataError

Family = Literal["gpt2", "qwen3"]

# Ours -> theirs; several of theirs are stacked along the output axis in one of ours.
_GPT2_BLOCK = {
    "norm_1": ("ln_1",),
    "attention.qkv": ("attn.c_attn",),
    "attention.output": ("attn.c_proj",),
    "norm_2": ("ln_2",),
    "mlp.up": ("mlp.c_fc",),
    "mlp.down": ("mlp.c_proj",),
}
_QWEN3_BLOCK = {
    "norm_1": ("input_layernorm",),
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "attention.output": ("self_attn.o_proj",),
    "norm_2": ("post_attention_layernorm",),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down": ("mlp.down_proj",),
}
_GPT2_ENDS = {"embedding": "transformer.wte", "position": "transformer.wpe", "norm": "transformer.ln_f"}
_QWEN3_ENDS = {"embedding": "model.embed_tokens", "norm": "model.norm"}


def family(config: GPTConfig) -> Family:
    """Name the transformers family that computes exactly what this config says."""
    kind = (config.position, config.norm, config.mlp, config.qk_norm, config.bias)
    if kind == ("learned", "layernorm", "gelu", False, True) and config.kv_heads == config.n_head:
        return "gpt2"
    if kind == ("rope", "rmsnorm", "swiglu", True, False):
        return "qwen3"
    raise ConfigError(
        f"no family in transformers has model.position, norm, mlp, qk_norm, bias = {kind} with "
        f"{config.kv_heads} key heads for {config.n_head}; gpt2 and qwen3 are known"
    )


def to_hf(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Rename and split a CausalLM's state for transformers; a tied lm_head is left out."""
    names, theirs = _names(config), {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        pieces = torch.split(tensor, _sizes(module, len(tensor), config))
        for their_module, piece in zip(names[module], pieces, strict=True):
            theirs[f"{their_module}.{kind}"] = _flip(module, piece, config).contiguous()
    return theirs


def from_hf(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Rename and stack a transformers state for CausalLM; a missing or an unknown tensor is an error."""
    ours, unused = {}, set(state) - ({"lm_head.weight"} if config.tie_word_embeddings else set())
    for module, their_modules in _names(config).items():
        for kind in _kinds(module, config):
            their_names = [f"{their_module}.{kind}" for their_module in their_modules]
            if missing := [name for name in their_names if name not in state]:
                raise DataError(f"the {family(config)} weights have no {missing[0]}")
            pieces = [_flip(module, state[name], config) for name in their_names]
            ours[f"{module}.{kind}"] = torch.cat(pieces).contiguous()
            unused -= set(their_names)
    if unused:
        raise DataError(f"the {family(config)} weights have {min(unused)}, for which there is no place")
    return ours


def _names(config: GPTConfig) -> dict[str, tuple[str, ...]]:
    gpt2 = family(config) == "gpt2"
    ends, block, blocks = (
        (_GPT2_ENDS, _GPT2_BLOCK, "transformer.h") if gpt2 else (_QWEN3_ENDS, _QWEN3_BLOCK, "model.layers")
    )
    names: dict[str, tuple[str, ...]] = {f"backbone.{ours}": (theirs,) for ours, theirs in ends.items()}
    for i in range(config.n_layer):
        for ours, parts in block.items():
            names[f"backbone.blocks.{i}.{ours}"] = tuple(f"{blocks}.{i}.{part}" for part in parts)
    return names if config.tie_word_embeddings else names | {"lm_head": ("lm_head",)}


def _kinds(module: str, config: GPTConfig) -> tuple[str, ...]:
    no_bias = module.endswith(("embedding", "position", "lm_head")) or not config.bias
    return ("weight",) if no_bias else ("weight", "bias")


def _sizes(module: str, rows: int, config: GPTConfig) -> list[int]:
    if family(config) == "qwen3" and module.endswith("attention.qkv"):
        return [heads * config.head_size for heads in (config.n_head, config.kv_heads, config.kv_heads)]
    if module.endswith("mlp.gate_up"):
        return [rows // 2, rows // 2]
    return [rows]


def _flip(module: str, tensor: Tensor, config: GPTConfig) -> Tensor:
    """Transpose the weights of GPT-2's blocks, which transformers keeps as (input, output)."""
    conv1d = family(config) == "gpt2" and ".blocks." in module and tensor.ndim == 2
    return tensor.T if conv1d else tensor
