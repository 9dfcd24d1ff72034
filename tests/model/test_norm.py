from collections.abc import Callable

import torch
import torch.nn.functional as F

from model.config import GPTConfig
from model.norm import RMSNorm, build_norm


def test_rmsnorm_of_a_vector_worked_by_hand() -> None:
    norm = RMSNorm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 10.0]))
    # mean(3², 4²) = 12.5
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 40.0]) / 12.5**0.5)


def test_rmsnorm_is_torchs_forward_and_backward() -> None:
    norm = RMSNorm(8, eps=1e-6).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = norm.weight.detach().clone().requires_grad_()
    y, wanted = norm(x), F.rms_norm(x, (8,), weight, 1e-6)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), (x, norm.weight)),
        torch.autograd.grad(wanted.square().sum(), (x, weight)),
    )


def test_rmsnorm_has_the_gradient_of_its_own_differences() -> None:
    norm = RMSNorm(4, eps=1e-3).double()
    x = torch.tensor([[0.3, -1.0, 2.0, 0.1], [0.0, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))


def test_rmsnorm_in_half_precision_stays_near_full_precision() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    norm = RMSNorm(64, eps=1e-6)
    torch.testing.assert_close(norm(x.bfloat16()).float(), norm(x), rtol=2e-2, atol=2e-2)


def test_a_layer_norm_has_a_bias_only_when_asked(tiny_config: Callable[..., GPTConfig]) -> None:
    names = {
        bias: dict(build_norm(tiny_config(norm="layernorm", bias=bias)).named_parameters()) for bias in (False, True)
    }
    assert set(names[False]) == {"weight"}
    assert set(names[True]) == {"weight", "bias"}
