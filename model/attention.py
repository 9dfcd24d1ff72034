"""Machinery: causal self-attention with rotary positions, normalised queries and keys, and grouped heads.

Grouped heads: Ainslie et al. 2023.  Normalised queries and keys: Henry et al. 2020, one head at a time as in Qwen3.

Axes: B batch, T new tokens, S all tokens so far, C channels, D head size,
H query heads, K key and value heads, G = H / K query heads that share one of them.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from model.cache import KeyValueCache
from model.config import Architecture
from model.norm import RMSNorm

Rotation = tuple[Float[Tensor, "T D"], Float[Tensor, "T D"]]
Mask = Bool[Tensor, "#B 1 T S"]

# Of 64, 128 and 256 the fastest on CPU for contexts of 256: half of the masked quarter is never computed.
QUERY_BLOCK = 128


def rotary_table(config: Architecture) -> Rotation:
    """Tabulate cosine and signed sine of position times frequency, in float32 (RoFormer, Su et al. 2021)."""
    # Not in bf16, which has no odd numbers above 256: neighbouring positions would get the same angle.
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.float32) / config.head_size
    positions = torch.arange(config.context_length, dtype=torch.float32)
    angles = positions[:, None] * (1.0 / config.rope_theta**exponents)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Float[Tensor, "B T H D"], rotation: Rotation) -> Float[Tensor, "B T H D"]:
    """Turn each pair (x[i], x[i + D/2]) by the angle of its position at frequency i."""
    # The paper pairs neighbours, x[2i] with x[2i + 1]; GPT-NeoX and Qwen3 pair the halves, as here. Weights
    # learned with one pairing mean nothing with the other.
    cos, sin = (table[:, None].to(x.dtype) for table in rotation)
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


def split_heads(x: Float[Tensor, "B T HD"], n_head: int) -> Float[Tensor, "B T H D"]:
    """Give each head its own slice of the channels."""
    return x.view(*x.shape[:2], n_head, -1)


def causal_mask(n_queries: int, n_keys: int, device: torch.device) -> Bool[Tensor, "T S"]:
    """Mark the keys each query may see; the queries are the last of the keys' positions."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def future_bias(n_queries: int, n_keys: int, like: Float[Tensor, "*B"]) -> Float[Tensor, "T S"]:
    """Give minus infinity to the keys a query may not see, 0 to the others."""
    bias = torch.full((n_queries, n_keys), -torch.inf, dtype=like.dtype, device=like.device)
    return bias.triu(1 + n_keys - n_queries)


def document_mask(document_ids: Int[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """Mark, for each query, the keys before it and its own that belong to its document."""
    same = document_ids[:, :, None] == document_ids[:, None, :]
    return same.tril()[:, None]


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Mix the values each query may see; the queries are the last T of S positions.

    `mask` marks the keys each query may see; without it, all up to its own position.
    """
    # On CPU the backward of torch's fused attention is up to twice as slow as that of two matrix products.
    kernel = attend_plain if q.device.type == "cpu" else attend_sdpa
    return kernel(q, k, v, mask, dropout)


def attend_sdpa(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Attend with torch's fused kernels."""
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    causal = mask is None and n_queries == n_keys
    if mask is None and not causal and n_queries > 1:
        mask = causal_mask(n_queries, n_keys, q.device)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )


def attend_plain(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T D"]:
    """Attend with two matrix products and a softmax, block by block so that few scores are masked away."""
    start = n_cached = k.shape[-2] - q.shape[-2]
    mixed = []
    for queries in torch.split(q * q.shape[-1] ** -0.5, QUERY_BLOCK, dim=-2):
        end = start + queries.shape[-2]
        seen = None if mask is None else mask[..., start - n_cached : end - n_cached, :end]
        mixed.append(_attend_block(queries, k[:, :, :end], v[:, :, :end], seen, dropout))
        start = end
    return torch.cat(mixed, dim=-2)


def _attend_block(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Mask | None,
    dropout: float,
) -> Float[Tensor, "B H T D"]:
    # The G query heads that share keys are rows of one product, so keys are never copied for each of them.
    rows, n_queries = (*k.shape[:2], -1), q.shape[-2]
    scores = (q.reshape(*rows, q.shape[-1]) @ k.transpose(-2, -1)).view(*q.shape[:-1], -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif n_queries > 1:
        scores = scores + future_bias(n_queries, scores.shape[-1], scores)
    weights = scores.softmax(dim=-1)
    if dropout > 0:
        weights = F.dropout(weights, dropout)
    return (weights.view(*rows, weights.shape[-1]) @ v).view(q.shape)


class CausalSelfAttention(nn.Module):
    """Mix into every position what it and those before it hold."""

    def __init__(self, config: Architecture, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = [config.n_head, config.kv_heads, config.kv_heads]
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.n_embd, sum(self.heads) * config.head_size, bias=config.bias)
        self.q_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_size, config.norm_eps) if config.qk_norm else nn.Identity()
        self.output = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        rotation: Rotation | None,
        cache: KeyValueCache | None = None,
        mask: Mask | None = None,
    ) -> Float[Tensor, "B T C"]:
        q, k, v = torch.split(split_heads(self.qkv(x), sum(self.heads)), self.heads, dim=-2)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        mixed = attend(q, k, v, mask, self.dropout if self.training else 0.0)
        y: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return y
