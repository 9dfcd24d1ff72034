"""Machinery: the keys and values of tokens already seen, so that each new token costs one position."""

import torch
from jaxtyping import Float
from torch import Tensor

from model.config import GPTConfig


class KeyValueCache:
    """Hold room for context_length positions in every layer; `length` of them are filled."""

    def __init__(
        self,
        config: GPTConfig,
        *,
        batch_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.n_layer, batch_size, config.kv_heads, config.context_length, config.head_size)
        self.keys: Float[Tensor, "L B K S D"] = torch.zeros(shape, device=device, dtype=dtype)
        self.values: Float[Tensor, "L B K S D"] = torch.zeros_like(self.keys)
        self.length = 0

    @property
    def context_length(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[-2]

    def append(
        self, layer: int, keys: Float[Tensor, "B K T D"], values: Float[Tensor, "B K T D"]
    ) -> tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"]]:
        """Write one layer's new positions and return all of its positions, the new ones last."""
        end = self._end(keys.shape[-2])
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Count the new positions as filled, once every layer has appended them."""
        self.length = self._end(n_tokens)

    def _end(self, n_tokens: int) -> int:
        end = self.length + n_tokens
        if end > self.context_length:
            filled = f"{self.length} of {self.context_length}"
            raise ValueError(f"the cache has {filled} positions filled and no room for {n_tokens} more")
        return end
