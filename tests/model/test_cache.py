from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention import attend_plain, attend_sdpa
from model.cache import KeyValueCache
from model.config import GPTConfig
from model.heads import CausalLM


@pytest.mark.parametrize("kernel", [attend_plain, attend_sdpa])
@pytest.mark.parametrize("options", [{}, {"n_kv_head": 2}, {"position": "learned", "norm": "layernorm"}])
@pytest.mark.parametrize("steps", [[16], [1, 1, 5, 1, 8]])
def test_cached_logits_are_the_uncached_ones(
    kernel: Any,
    options: dict[str, Any],
    steps: list[int],
    tiny_lm: Callable[..., CausalLM],
    ids: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("model.attention.attend", kernel)
    model = tiny_lm(**options)
    cache = KeyValueCache(model.config, batch_size=3)
    with torch.no_grad():
        pieces = [model(piece, cache) for piece in ids.split(steps, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), rtol=1e-4, atol=1e-5)
    assert cache.length == 16


def test_appending_returns_everything_so_far(tiny_config: Callable[..., GPTConfig]) -> None:
    cache = KeyValueCache(tiny_config(n_kv_head=2))
    first, second = torch.full((1, 2, 3, 8), 1.0), torch.full((1, 2, 1, 8), 2.0)
    cache.append(1, first, -first)
    cache.advance(3)
    keys, values = cache.append(1, second, -second)
    assert keys[0, 0, :, 0].tolist() == [1, 1, 1, 2]
    assert values[0, 1, :, 7].tolist() == [-1, -1, -1, -2]


def test_a_full_cache_refuses_more(tiny_config: Callable[..., GPTConfig]) -> None:
    cache = KeyValueCache(tiny_config())
    cache.advance(20)
    with pytest.raises(ValueError, match="20 of 24 positions filled and no room for 5 more"):
        cache.append(0, torch.zeros(1, 4, 5, 8), torch.zeros(1, 4, 5, 8))
    with pytest.raises(ValueError, match="no room for 5 more"):
        cache.advance(5)
