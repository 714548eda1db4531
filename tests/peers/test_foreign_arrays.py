"""Arrays of other packages go in without a copy, and results come back as arrays of theirs."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fusednn import ops

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def tensor(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def as_numpy(t):
    return t.float().numpy() if t.dtype == torch.bfloat16 else t.numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_torch_tensors_give_the_results_of_numpy_arrays(dtype, layout):
    x = tensor(4, 6, 5, 3, dtype=dtype).to(memory_format=layout)
    grad = tensor(4, 6, 5, 3, dtype=dtype, seed=1).to(memory_format=layout)
    parameter_type = torch.float64 if dtype == torch.float64 else torch.float32
    gamma, beta = tensor(6, seed=2).to(parameter_type), tensor(6, seed=3).to(parameter_type)
    y, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
    results = (y, mean, inv_std)
    results += ops.batch_norm_backward(grad, x, gamma, beta, mean, inv_std, negative_slope=0.1)
    assert all(isinstance(r, torch.Tensor) for r in results)
    assert (y.dtype, y.stride(), mean.dtype) == (dtype, x.stride(), parameter_type)

    def numpy_of(t):
        if t.dtype != torch.bfloat16:
            return t.numpy()
        ml_dtypes = pytest.importorskip("ml_dtypes")
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)

    n = [numpy_of(t) for t in (x, grad, gamma, beta)]
    own = ops.batch_norm_forward(n[0], n[2], n[3], negative_slope=0.1)
    own += ops.batch_norm_backward(n[1], n[0], n[2], n[3], *own[1:], negative_slope=0.1)
    for theirs, ours in zip(results, own, strict=True):
        np.testing.assert_array_equal(as_numpy(theirs), ours.astype(as_numpy(theirs).dtype))


def test_optimizers_step_torch_tensors_in_place():
    params, grads = [tensor(5, 3), tensor(7)], [tensor(5, 3, seed=1), tensor(7, seed=2)]
    peers = [torch.nn.Parameter(p.clone()) for p in params]
    states = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    optimizer = torch.optim.Adam(peers, lr=0.1)
    for step in range(1, 4):
        ops.adam_step(params, grads, *states, step=step, lr=0.1)
        for peer, grad in zip(peers, grads, strict=True):
            peer.grad = grad.clone()
        optimizer.step()
    for own, peer in zip(params, peers, strict=True):
        torch.testing.assert_close(own, peer.detach())


def test_out_may_be_of_another_package():
    out = np.empty(3, np.float32)
    ops.leaky_relu(torch.tensor([-1.0, 0.0, 2.0]), 0.5, out=out)
    np.testing.assert_array_equal(out, [-0.5, 0, 2])
    ops.leaky_relu(jnp.array([-2.0, 1.0, 4.0]), 0.5, out=out)
    np.testing.assert_array_equal(out, [-1, 1, 4])


def test_memory_is_held_only_while_it_is_used():
    x = np.ones(8, np.float32)
    references = sys.getrefcount(x)
    t = torch.from_numpy(x)
    assert sys.getrefcount(x) == references + 1
    ops.leaky_relu(t, out=t)
    with pytest.raises(ValueError, match="`negative_slope` must be finite"):
        ops.leaky_relu(t, float("nan"), out=t)
    del t
    assert sys.getrefcount(x) == references


def test_read_only_arrays_are_not_written():
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(np.ones(3, np.float32), out=jnp.ones(3))


def test_strided_tensors_are_refused_with_their_strides():
    x = tensor(4, 6)[:, ::2]
    with pytest.raises(ValueError, match=r"`x` must be dense.*strides=\(6, 2\)"):
        ops.leaky_relu(x, out=torch.empty(4, 3))


def test_arrays_that_cannot_be_allocated_need_out():
    with pytest.raises(TypeError, match=r"`x` must be an array of NumPy, CuPy or PyTorch.*out"):
        ops.leaky_relu(jnp.ones(3))


def test_tensors_that_require_gradients_are_refused():
    with pytest.raises(BufferError, match="detach"):
        ops.leaky_relu(torch.ones(3, requires_grad=True))


def test_other_dtypes_are_refused_by_name():
    with pytest.raises(TypeError, match=r"`x` must be float32.*DLPack type code 0 of 64 bits"):
        ops.leaky_relu(torch.arange(3))
