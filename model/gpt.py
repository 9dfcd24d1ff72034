"""Machinery: the backbone, from token ids to the hidden states a head reads, and how its weights begin.

Axes: B batch, T tokens, C channels, D head size.
"""

import hashlib
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model.attention import Rotation, document_mask, rotary_table
from model.block import Block
from model.cache import KeyValueCache
from model.config import GPTConfig
from model.norm import build_norm


class GPT(nn.Module):
    """Run token ids through the blocks."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        if config.position == "learned":
            self.position = nn.Embedding(config.context_length, config.n_embd)
        else:
            cos, sin = rotary_table(config)
            self.register_buffer("rotary_cos", cos, persistent=False)
            self.register_buffer("rotary_sin", sin, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = build_norm(config)

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        cache: KeyValueCache | None = None,
        document_ids: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Return the normalised last hidden states; with a cache the ids follow those it holds.

        `document_ids` says which document each id is of: none then sees another document.
        """
        if cache is not None and document_ids is not None:
            raise ValueError("a cache holds one document: it takes no document_ids")
        span = self._span(input_ids.shape[1], cache)
        x, rotation = self._embed(input_ids, span)
        x = self.dropout(x)
        mask = None if document_ids is None else document_mask(document_ids)
        for block in self.blocks:
            x = block(x, rotation, cache, mask)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        hidden: Tensor = self.norm(x)
        return hidden

    def _embed(self, input_ids: Int[Tensor, "B T"], span: slice) -> tuple[Float[Tensor, "B T C"], Rotation | None]:
        x: Tensor = self.embedding(input_ids)
        if self.config.position == "learned":
            return x + self.position.weight[span], None
        return x, (self.get_buffer("rotary_cos")[span], self.get_buffer("rotary_sin")[span])

    def _span(self, n_tokens: int, cache: KeyValueCache | None) -> slice:
        start = 0 if cache is None else cache.length
        if start + n_tokens > self.config.context_length:
            raise ValueError(
                f"{n_tokens} tokens after {start} cached ones do not fit model.context_length = "
                f"{self.config.context_length}"
            )
        return slice(start, start + n_tokens)


def init_weights(module: nn.Module, seed: int) -> None:
    """Draw every weight from (seed, its name), so that a new head leaves the backbone's weights as they were.

    | parameter                                       | start                           |
    |-------------------------------------------------|---------------------------------|
    | embedding, position, qkv, up, gate_up           | normal, 0.02                    |
    | lm_head, score                                  | normal, 0.02                    |
    | attention.output, mlp.down (into the residual)  | normal, 0.02 / sqrt(2 n_layer)  |
    | norm weights                                    | 1                               |
    | biases                                          | 0                               |

    As GPT-2 (Radford et al. 2019). The draws are made on CPU in float32, whatever the device.
    """
    n_blocks = sum(isinstance(part, Block) for part in module.modules())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_initial_weight(name, parameter.shape, n_blocks, seed))


def _initial_weight(name: str, shape: torch.Size, n_blocks: int, seed: int) -> Tensor:
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
    std = 0.02 / math.sqrt(2 * n_blocks) if residual else 0.02
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.normal(0.0, std, shape, generator=generator)
