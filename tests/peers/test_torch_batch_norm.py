"""BatchNorm and leaky ReLU against PyTorch's own, forwards and through autograd."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusednn import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional

DTYPES = {np.float32: 1e-5, np.float64: 1e-13, np.float16: 4e-3, ml_dtypes.bfloat16: 3e-2}
SHAPES = {"NCHW": (6, 5, 7, 4), "NHWC": (6, 5, 7, 4), "NC": (97, 5), "NCL": (3, 5, 1_025)}
SLOPES = (None, 0.0, 0.01, 0.3)


def to_torch(x):
    """The same numbers as a tensor; NumPy's bfloat16 goes by its bits."""
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def to_float64(tensor):
    return tensor.detach().to(torch.float64).numpy()


class Layer:
    """Inputs of one layer, as arrays and as tensors that record gradients."""

    def __init__(self, make, layout="NCHW", dtype=np.float32, slope=0.01):
        own = np.float64 if dtype == np.float64 else np.float32
        self.slope, self.tolerance = slope, DTYPES[dtype]
        shape = SHAPES[layout]
        x, grad = make.normal(shape, dtype, mean=1.0, std=2.0), make.normal(shape, dtype)
        vectors = make.uniform((5,), own), make.normal((5,), own)
        vectors += make.normal((5,), own), make.uniform((5,), own)
        self.gamma, self.beta, self.running_mean, self.running_var = vectors
        self.tensors = [to_torch(v) for v in (x, self.gamma, self.beta)]
        for tensor in self.tensors:
            tensor.requires_grad_()
        self.tensor_grad = to_torch(grad)
        self.running = [to_torch(self.running_mean), to_torch(self.running_var)]
        self.last = layout == "NHWC"
        self.x, self.grad = (np.moveaxis(v, 1, -1).copy() if self.last else v for v in (x, grad))
        self.how = {"negative_slope": slope, "channel_axis": -1 if self.last else 1}

    def torch(self, training, momentum=0.1, eps=1e-5):
        x, gamma, beta = self.tensors
        y = F.batch_norm(x, *self.running, gamma, beta, training, momentum, eps)
        return y if self.slope is None else F.leaky_relu(y, self.slope)

    def assert_equal(self, ours, theirs, of_terms=1.0):
        theirs = to_float64(theirs)
        if self.last and theirs.ndim == 4:
            theirs = np.moveaxis(theirs, 1, -1)
        size = np.abs(theirs).max(initial=1.0) * of_terms
        np.testing.assert_allclose(ours.astype(np.float64), theirs, atol=self.tolerance * size)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_training(make, dtype, layout, slope):
    layer = Layer(make, layout, dtype, slope)
    gamma, beta = layer.gamma, layer.beta
    keep = {"running_mean": layer.running_mean, "running_var": layer.running_var}
    y, mean, inv_std = ops.batch_norm_forward(layer.x, gamma, beta, **keep, **layer.how)
    theirs = layer.torch(training=True)
    layer.assert_equal(y, theirs)
    for ours, running in zip(keep.values(), layer.running, strict=True):
        np.testing.assert_allclose(ours, running.numpy(), rtol=1e-5)

    # Where the dtype is short, rounding puts some elements on the other side of the kink: compare
    # the gradients only where both agree on the side.
    ours_positive = np.moveaxis(y > 0, -1, 1) if layer.last else y > 0
    same_side = ours_positive == (theirs.detach().float().numpy() > 0)
    layer.tensor_grad *= torch.from_numpy(same_side)
    layer.grad *= np.moveaxis(same_side, 1, -1) if layer.last else same_side
    theirs.backward(layer.tensor_grad)
    saved = (layer.x, gamma, beta, mean, inv_std)
    got = ops.batch_norm_backward(layer.grad, *saved, **layer.how)
    for ours, tensor in zip(got, layer.tensors, strict=True):
        layer.assert_equal(ours, tensor.grad)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", SHAPES)
def test_inference_and_frozen_gradients(make, layout, slope):
    layer = Layer(make, layout, slope=slope)
    saved = (layer.x, layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    theirs = layer.torch(training=False, eps=1e-3)
    y = ops.batch_norm_inference(*saved, eps=1e-3, **layer.how)
    layer.assert_equal(y, theirs)
    theirs.backward(layer.tensor_grad)
    got = ops.batch_norm_inference_backward(layer.grad, *saved, eps=1e-3, **layer.how)
    for ours, tensor in zip(got, layer.tensors, strict=True):
        layer.assert_equal(ours, tensor.grad)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_running_statistics_over_many_batches(make, momentum):
    mean, var = np.zeros(5, np.float32), np.ones(5, np.float32)
    running = [to_torch(mean), to_torch(var)]
    for n in (2, 3, 50, 7):
        x = make.normal((n, 5, 3), mean=2.0)
        F.batch_norm(to_torch(x), *running, None, None, True, momentum, 1e-5)
        keep = {"running_mean": mean, "running_var": var, "momentum": momentum}
        ops.batch_norm_forward(x, None, None, **keep)
    np.testing.assert_allclose(mean, running[0].numpy(), rtol=1e-5)
    np.testing.assert_allclose(var, running[1].numpy(), rtol=1e-5)


def test_one_element_per_channel_is_refused_by_both():
    x = np.ones((1, 5), np.float32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(to_torch(x), torch.zeros(5), torch.ones(5), training=True)
    running = {"running_mean": np.zeros(5, np.float32), "running_var": np.ones(5, np.float32)}
    with pytest.raises(ValueError, match="unbiased_running_var"):
        ops.batch_norm_forward(x, None, None, **running)


def test_the_in_place_form_gives_the_gradients_of_autograd(make):
    layer = Layer(make, "NCHW", np.float64, 0.01)
    y, _, inv_std = ops.batch_norm_forward(layer.x, layer.gamma, layer.beta, **layer.how)
    layer.torch(training=True).backward(layer.tensor_grad)
    saved = (layer.grad, y, layer.gamma, layer.beta, inv_std)
    got = ops.batch_norm_backward_from_output(*saved, **layer.how)
    for ours, tensor in zip(got, layer.tensors, strict=True):
        layer.assert_equal(ours, tensor.grad, of_terms=100)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_leaky_relu(make, dtype, slope):
    x, grad = make.normal((1_000,), dtype), make.normal((1_000,), dtype)
    x[:3] = [0.0, -0.0, np.nan]
    tensor = to_torch(x).requires_grad_()
    theirs = F.leaky_relu(tensor, slope)
    np.testing.assert_allclose(
        ops.leaky_relu(x, slope).astype(np.float64), to_float64(theirs), rtol=DTYPES[dtype]
    )
    # In place, and so from the output, PyTorch refuses a negative slope; out of place it does not.
    theirs.backward(to_torch(grad))
    ours = ops.leaky_relu_backward(grad, x, slope)
    np.testing.assert_allclose(ours.astype(np.float64), to_float64(tensor.grad), rtol=DTYPES[dtype])


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU cannot flush denormals")
def test_a_host_that_flushes_denormals_changes_nothing(threads):
    """PyTorch sets the thread's floating-point mode; we use our own and give theirs back."""
    tiny = np.float32(1e-40)
    x = np.full(1_000_000, tiny)
    expected = ops.leaky_relu(-x, 0.5)
    assert expected[0] == np.float32(-5e-41)
    torch.set_flush_denormal(True)
    try:
        found = [ops.leaky_relu(-x, 0.5) for _ in range(3)]
        still_flushed = (torch.from_numpy(x[:1]) * 0.5).view(torch.int32).item() == 0
    finally:
        torch.set_flush_denormal(False)
    assert still_flushed
    for y in found:
        np.testing.assert_array_equal(y.view(np.int32), expected.view(np.int32))
