"""PyTorch's tensors on a GPU: its memory formats, more elements than 32 bits count, refusals."""

from __future__ import annotations

import pytest
from devices import STANDS_IN, Device, array

import reference as ref
from batch_norm_problem import Problem
from fusednn import ops

pytestmark = pytest.mark.short
torch = pytest.importorskip("torch")

#: A stand-in goes through the same lines with few elements.
COUNT = 4097 if STANDS_IN else (1 << 31) + 97


@pytest.fixture
def cuda(device: Device) -> Device:
    if not hasattr(device, "torch"):
        pytest.skip("of PyTorch's tensors alone")
    return device


@pytest.fixture
def room(cuda: Device) -> None:
    needed = 24 * COUNT
    if not cuda.host and torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"the GPU has no {needed >> 30} GiB left")


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_channels_last(cuda, make, dtype):
    p = Problem(make, (3, 5, 49), dtype, "NCHW", slope=0.1)
    given = [array(cuda, a) for a in (p.x, p.grad, p.gamma, p.beta)]
    x, grad = (t.to(memory_format=torch.channels_last) for t in given[:2])
    assert x.stride() != given[0].stride()
    y, mean, inv_std = ops.batch_norm_forward(x, *given[2:], **p.how)
    assert y.stride() == x.stride()
    p.assert_statistics(cuda.get(mean), cuda.get(inv_std))
    applied = (cuda.get(mean), cuda.get(inv_std), p.gamma, p.beta)
    ref.assert_same_numbers(cuda.get(y), ops.batch_norm_apply(p.x, *applied, **p.how))
    results = ops.batch_norm_backward(grad, x, *given[2:], mean, inv_std, **p.how)
    got = [cuda.get(t) for t in results]
    exact = ref.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, *applied[:2], **p.how)
    p.assert_gradients(got, exact, p.gamma, applied[1], applied[0])


def test_more_elements_than_32_bits_count(cuda, room):
    x = torch.empty(COUNT, dtype=torch.float16, device=cuda.where).normal_()
    y = ops.leaky_relu(x, 0.5)
    assert torch.equal(y, torch.where(x > 0, x, x * 0.5))


def test_channels_that_begin_past_32_bits(cuda, room):
    inner = COUNT // 3 + 1
    x = torch.empty((1, 3, inner), dtype=torch.float16, device=cuda.where).normal_()
    x += torch.arange(3, device=cuda.where).view(1, 3, 1)
    y, mean, inv_std = ops.batch_norm_forward(x, None, None)
    for channel in range(3):
        exact = x[0, channel].double()
        assert float(mean[channel]) == pytest.approx(float(exact.mean()), rel=1e-5, abs=1e-5)
        deviation = float(exact.var(correction=0) + 1e-5) ** -0.5
        assert float(inv_std[channel]) == pytest.approx(deviation, rel=1e-5)
        expected = (exact - float(mean[channel])) * float(inv_std[channel])
        assert float((y[0, channel].double() - expected).abs().max()) < 4e-3
        del exact, expected


def test_arrays_here_and_there_are_refused(cuda):
    if cuda.host:
        pytest.skip("there is one memory")
    x = cuda.empty((4,), "float32")
    with pytest.raises(ValueError, match="`out` must be on the device of the other arrays, cuda:0"):
        ops.leaky_relu(x, out=torch.empty(4))
