"""Machinery: the settings of a network and of sampling from it; no torch here.

A config that makes no sense cannot be built: it raises ConfigError, naming the field.
"""

from dataclasses import dataclass, fields
from math import inf
from typing import Any, Literal

from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Say what a recipe says of a network; the defaults are Qwen3's block."""

    context_length: int = 256
    """tokens the network sees at once"""
    n_layer: int = 6
    """blocks"""
    n_head: int = 6
    """query heads in a block"""
    n_kv_head: int | None = None
    """key and value heads in a block, a divisor of n_head; None: as many as n_head"""
    n_embd: int = 384
    """channels of the residual stream"""
    intermediate_size: int | None = None
    """channels inside the mlp; None: 4 n_embd, or for swiglu 8/3 n_embd rounded up to a multiple of 32"""
    position: Literal["rope", "learned"] = "rope"
    """how a token knows its place: rotated queries and keys, or a learned vector added to its embedding"""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """the norm before attention, before the mlp and at the end"""
    mlp: Literal["swiglu", "relu2", "gelu"] = "swiglu"
    """the mlp: gated SiLU, squared ReLU, or GELU in GPT-2's tanh form"""
    qk_norm: bool = True
    """RMS-normalise each head's queries and keys"""
    bias: bool = False
    """biases in the linear layers and the layer norms"""
    tie_word_embeddings: bool = True
    """use the token embedding as the output matrix too"""
    dropout: float = 0.0
    """fraction dropped in training: after the embedding, in attention and before each residual sum"""
    rope_theta: float = 10000.0
    """base of the rotary wavelengths"""
    norm_eps: float = 1e-6
    """added to the variance in every norm"""

    def __post_init__(self) -> None:
        _require_integers(self, "context_length n_layer n_head n_kv_head n_embd intermediate_size")
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, f"model.{name} must be one of {choices}", getattr(self, name))
        _require_multiple("n_embd", self.n_embd, "n_head", self.n_head)
        _require_multiple("n_head", self.n_head, "n_kv_head", self.kv_heads)
        if self.position == "rope" and self.head_size % 2:
            raise ConfigError(
                "model.n_embd / model.n_head must be even when model.position is rope, "
                f"got {self.n_embd} / {self.n_head} = {self.head_size}"
            )
        _require(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)
        _require(0 < self.rope_theta < inf, "model.rope_theta must be positive", self.rope_theta)
        _require(0 < self.norm_eps < inf, "model.norm_eps must be positive", self.norm_eps)

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Key and value heads, resolved."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def intermediate_channels(self) -> int:
        """Channels inside the mlp, resolved."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return -(-self.n_embd // 12) * 32 if self.mlp == "swiglu" else 4 * self.n_embd


@dataclass(frozen=True, kw_only=True)
class GPTConfig(Architecture):
    """Say everything that fixes the shape of a network: the architecture and the tokenizer's vocabulary."""

    vocab_size: int
    """token ids, control tokens included"""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_integers(self, "vocab_size")

    @classmethod
    def of(cls, architecture: Architecture, *, vocab_size: int) -> "GPTConfig":
        """Give an architecture the vocabulary it was missing."""
        options = {field.name: getattr(architecture, field.name) for field in fields(Architecture)}
        return cls(**options, vocab_size=vocab_size)


def gpt2(**options: Any) -> Architecture:
    """Describe GPT-2 (124M unless told otherwise); any field can be given."""
    return Architecture(**(_GPT2 | options))


def parameter_count(config: GPTConfig) -> int:
    """Count the weights of a causal language model, a tied embedding once."""
    channels, heads, bias = config.n_embd, config.n_head + 2 * config.kv_heads, int(config.bias)
    norm = channels * (1 + (bias if config.norm == "layernorm" else 0))
    up = config.intermediate_channels * (2 if config.mlp == "swiglu" else 1)
    attention = (channels + bias) * heads * config.head_size + (channels + bias) * channels
    mlp = (channels + bias) * up + (config.intermediate_channels + bias) * channels
    block = attention + mlp + 2 * norm + 2 * config.head_size * config.qk_norm
    embeddings = config.vocab_size * (1 if config.tie_word_embeddings else 2)
    positions = config.context_length if config.position == "learned" else 0
    return (embeddings + positions) * channels + config.n_layer * block + norm


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Say how the next token is sampled."""

    temperature: float = 0.8
    """divides the logits; 0 takes the likeliest token"""
    top_k: int | None = None
    """sample from the k likeliest tokens only"""
    top_p: float | None = None
    """sample from the fewest tokens whose probabilities reach p (nucleus sampling)"""
    max_new_tokens: int = 100
    """stop after this many tokens"""
    seed: int = 0
    """of the random numbers"""

    def __post_init__(self) -> None:
        _require_integers(self, "max_new_tokens top_k", room="sampling")
        _require_integers(self, "seed", room="sampling", least=0)
        _require(0 <= self.temperature < inf, "sampling.temperature must be 0 or more", self.temperature)
        _require(self.top_p is None or 0 < self.top_p <= 1, "sampling.top_p must be in (0, 1]", self.top_p)


_CHOICES = {
    "position": ("rope", "learned"),
    "norm": ("rmsnorm", "layernorm"),
    "mlp": ("swiglu", "relu2", "gelu"),
}

_GPT2: dict[str, Any] = {
    "context_length": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "position": "learned",
    "norm": "layernorm",
    "norm_eps": 1e-5,
    "mlp": "gelu",
    "qk_norm": False,
    "bias": True,
}


def _require(holds: bool, rule: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"{rule}, got {got}")


def _require_integers(config: object, names: str, *, room: str = "model", least: int = 1) -> None:
    """Refuse a field that is neither an integer of at least `least` nor None where None is its default."""
    optional = {field.name for field in fields(config) if field.default is None}  # type: ignore[arg-type]
    for name in names.split():
        value = getattr(config, name)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        absent = value is None and name in optional
        _require(whole or absent, f"{room}.{name} must be an integer, {least} or more", value)


def _require_multiple(name: str, value: int, divisor_name: str, divisor: int) -> None:
    rule = f"model.{name} must be a multiple of model.{divisor_name}"
    if value % divisor:
        raise ConfigError(f"{rule}, got {value} and {divisor}")
