import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention import (
    QUERY_BLOCK,
    CausalSelfAttention,
    attend,
    attend_plain,
    attend_sdpa,
    causal_mask,
    document_mask,
    future_bias,
    rotary_table,
    rotate,
)
from model.config import GPTConfig
from model.heads import CausalLM

Kernel = Callable[..., Tensor]
KERNELS: list[Kernel] = [attend_plain, attend_sdpa]


def heads(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rotating_a_vector_worked_by_hand() -> None:
    config = GPTConfig(vocab_size=1, n_head=1, n_embd=4, rope_theta=100.0, context_length=3)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(1, 3, 1, 4)
    turned = rotate(x, rotary_table(config))[0, :, 0]
    # Frequencies 1 and 1/10; the pairs are (1, 3) and (2, 4).
    for position, angles in enumerate([(0.0, 0.0), (1.0, 0.1), (2.0, 0.2)]):
        (c0, s0), (c1, s1) = ((math.cos(angle), math.sin(angle)) for angle in angles)
        wanted = [1 * c0 - 3 * s0, 2 * c1 - 4 * s1, 3 * c0 + 1 * s0, 4 * c1 + 2 * s1]
        torch.testing.assert_close(turned[position], torch.tensor(wanted))


def test_rotated_products_depend_on_the_distance_only() -> None:
    config = GPTConfig(vocab_size=1, n_head=1, n_embd=8, context_length=32)
    q, k = (rotate(heads(1, 1, 1, 8, seed=seed).expand(1, 32, 1, 8), rotary_table(config)) for seed in (1, 2))
    scores = q[0, :, 0] @ k[0, :, 0].T
    torch.testing.assert_close(scores[5, 2], scores[30, 27])
    assert not torch.isclose(scores[5, 2], scores[5, 3])


def test_the_mask_lets_the_last_query_see_everything() -> None:
    mask = causal_mask(2, 3, torch.device("cpu"))
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert torch.equal(future_bias(2, 3, torch.zeros(())) == 0, mask)


@pytest.mark.parametrize("kernel", KERNELS)
def test_attention_worked_by_hand(kernel: Kernel) -> None:
    q = torch.tensor([[[[0.0], [1.0]]]])
    k = torch.tensor([[[[5.0], [5.0 + math.log(3)]]]])
    v = torch.tensor([[[[1.0], [2.0]]]])
    # The first query sees the first value; the second weighs the values 1 : 3.
    torch.testing.assert_close(kernel(q, k, v), torch.tensor([[[[1.0], [1.75]]]]))


@pytest.mark.parametrize("n_queries", [1, 7, QUERY_BLOCK, 2 * QUERY_BLOCK + 5])
@pytest.mark.parametrize("n_cached", [0, 9])
def test_the_kernels_agree_forward_and_backward(n_queries: int, n_cached: int) -> None:
    q = heads(2, 4, n_queries, 8).requires_grad_()
    k = heads(2, 2, n_cached + n_queries, 8, seed=1).requires_grad_()
    v = heads(2, 2, n_cached + n_queries, 8, seed=2).requires_grad_()
    plain, sdpa = (kernel(q, k, v) for kernel in KERNELS)
    torch.testing.assert_close(plain, sdpa)
    torch.testing.assert_close(
        torch.autograd.grad(plain.square().sum(), (q, k, v)),
        torch.autograd.grad(sdpa.square().sum(), (q, k, v)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_document_mask_worked_by_hand() -> None:
    mask = document_mask(torch.tensor([[0, 0, 1, 1, 2], [5, 5, 5, 5, 5]]))
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]
    assert torch.equal(mask[1, 0], causal_mask(5, 5, torch.device("cpu")))


@pytest.mark.parametrize("n_tokens", [1, 7, 2 * QUERY_BLOCK + 5])
def test_the_kernels_agree_on_masked_documents_forward_and_backward(n_tokens: int) -> None:
    generator = torch.Generator().manual_seed(3)
    mask = document_mask(torch.randint(2, (2, n_tokens), generator=generator).cumsum(-1) // 9)
    q = heads(2, 4, n_tokens, 8).requires_grad_()
    k = heads(2, 2, n_tokens, 8, seed=1).requires_grad_()
    v = heads(2, 2, n_tokens, 8, seed=2).requires_grad_()
    plain, sdpa = (kernel(q, k, v, mask) for kernel in KERNELS)
    torch.testing.assert_close(plain, sdpa)
    torch.testing.assert_close(
        torch.autograd.grad(plain.square().sum(), (q, k, v)),
        torch.autograd.grad(sdpa.square().sum(), (q, k, v)),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_document_needs_no_mask(kernel: Kernel) -> None:
    n_tokens = QUERY_BLOCK + 9
    q, k, v = heads(1, 4, n_tokens, 8), heads(1, 2, n_tokens, 8, seed=1), heads(1, 2, n_tokens, 8, seed=2)
    mask = document_mask(torch.zeros(1, n_tokens, dtype=torch.int64))
    torch.testing.assert_close(kernel(q, k, v, mask), kernel(q, k, v))


@pytest.mark.parametrize("kernel", KERNELS)
def test_grouped_heads_share_keys_as_copies_would(kernel: Kernel) -> None:
    q, k, v = heads(2, 6, 5, 4), heads(2, 2, 5, 4, seed=1), heads(2, 2, 5, 4, seed=2)
    copies = kernel(q, k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1))
    torch.testing.assert_close(kernel(q, k, v), copies)


def test_as_many_key_heads_as_heads_is_the_default(tiny_lm: Callable[..., CausalLM], ids: Tensor) -> None:
    assert torch.equal(tiny_lm()(ids), tiny_lm(n_kv_head=4)(ids))


@pytest.mark.parametrize("kernel", KERNELS)
def test_dropout_touches_attention_only_in_training(
    kernel: Kernel, tiny_config: Callable[..., GPTConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.attention.attend", kernel)
    attention = CausalSelfAttention(tiny_config(dropout=0.5), 0)
    x = heads(2, 16, 32)
    torch.manual_seed(0)
    assert not torch.equal(attention(x, None), attention(x, None))
    attention.eval()
    assert torch.equal(attention(x, None), attention(x, None))


@pytest.mark.parametrize("device, chosen", [("cpu", attend_plain), ("meta", attend_sdpa)])
def test_the_device_chooses_the_kernel(device: str, chosen: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    for kernel in KERNELS:

        def note(*inputs: Any, kernel: Kernel = kernel) -> Tensor:
            used.append(kernel)
            return kernel(*inputs)

        monkeypatch.setattr(f"model.attention.{kernel.__name__}", note)
    q, k = heads(1, 4, 3, 8).to(device), heads(1, 2, 3, 8).to(device)
    assert attend(q, k, k).shape == q.shape and used == [chosen]


def test_the_network_is_the_same_with_both_kernels(
    tiny_lm: Callable[..., CausalLM], ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_lm()(ids)
    monkeypatch.setattr("model.attention.attend", attend_sdpa)
    sdpa = tiny_lm()(ids)
    assert not torch.equal(sdpa, plain), "the other kernel was not used"
    torch.testing.assert_close(sdpa, plain, rtol=1e-4, atol=1e-5)
