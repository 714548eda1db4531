"""In place, gradients keep half of their digits, or the call is refused before anything changes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import fusednn.torch as ft  # noqa: E402  needs PyTorch

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SHAPE = (256, 5)


def normal(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64).to(dtype)


def layer(dtype, weight, bias, slope=0.01):
    own = torch.float64 if dtype == torch.float64 else torch.float32
    module = ft.BatchNormLeakyReLU1d(SHAPE[1], negative_slope=slope, inplace=True, dtype=own)
    with torch.no_grad():
        module.weight.fill_(1)
        module.weight[3], module.bias[3] = weight, bias
    return module


def errors(dtype, *parameters):
    """Norms of the errors of the input's and the weight's gradients, relative, of channel 3.

    The weight's is a sum whose terms may cancel: its error is beside that of their squares.
    """
    module = layer(dtype, *parameters)
    x, grad = normal(1, dtype), normal(2, dtype)
    leaf = x.clone().requires_grad_()
    module(leaf * 1).backward(grad)
    exact = x.double().requires_grad_()
    weight = module.weight.detach().double().requires_grad_()
    y = F.batch_norm(exact, None, None, weight, module.bias.detach().double(), True)
    F.leaky_relu(y, module.negative_slope).backward(grad.double())
    of_input = (leaf.grad.double() - exact.grad)[:, 3].norm() / exact.grad[:, 3].norm()
    of_weight = (module.weight.grad[3].double() - weight.grad[3]).abs() / grad[:, 3].double().norm()
    return [of_input.item(), of_weight.item()]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_half_of_the_digits_are_right_up_to_the_bound(dtype, sign):
    root = torch.finfo(dtype).eps ** 0.5
    weight = 0.5
    assert max(errors(dtype, weight, sign * 0.95 * weight / root)) < root
    for module in (layer(dtype, weight, sign * 1.05 * weight / root), layer(dtype, -0.0, 0.0)):
        z = normal(1, dtype).requires_grad_() * 1
        before, buffers = z.detach().clone(), [b.clone() for b in module.buffers()][:2]
        with pytest.raises(ValueError, match=r"`weight` must not be zero.*nor so small.*t\[3\]="):
            module(z)
        assert torch.equal(z, before)
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), buffers, strict=False))


@pytest.mark.parametrize(
    ("dtype", "weight", "bias", "slope"),
    [
        (torch.bfloat16, 0.01, 1, 0.01),
        (torch.float32, 1e-6, 10, 0.01),
        (torch.float32, 1e-30, 1, 0.01),
        (torch.float32, 1e-42, 0, 0.01),
        (torch.float16, 1e-3, 0, 1e-4),  # the output has no digits there
    ],
)
def test_what_would_be_lost_is_refused(dtype, weight, bias, slope):
    with pytest.raises(ValueError, match="`weight` must not be zero"):
        errors(dtype, weight, bias, slope)


@pytest.mark.parametrize("slope", [1e-44, 1e39])
def test_slopes_without_an_inverse_are_refused(slope):
    with pytest.raises(ValueError, match=r"`negative_slope` must be positive.*no subnormal"):
        layer(torch.float32, 1, 0, slope)(normal(1, torch.float32))


@pytest.mark.parametrize("slope", [1e-2, 1e-6, 1e-20, 1e-37, 1e3])
def test_slopes_that_have_one(slope):
    assert max(errors(torch.float32, 1.0, 0.5, slope)) < 3e-4


def test_small_weights_are_fine_where_nothing_is_recorded():
    module = layer(torch.float32, 1e-30, 1.0)
    with torch.no_grad():
        assert module(normal(1, torch.float32)).isfinite().all()
