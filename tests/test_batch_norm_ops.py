"""Batch normalisation with leaky ReLU against the reference: forward, the backwards, inference.

Each result is judged on its own: y by the mean and inv_std that the call itself returned, mean and
inv_std by the exact statistics, grad_x by the magnitude of its largest term.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import reference as ref
from batch_norm_problem import LAYOUTS, Problem, arranged
from fusednn import ops

# (outer, channels, inner): empty in each place, one element per channel, odd sizes, whole cache
# lines, leaves of several thousand elements, and enough work for several threads.
SHAPES = (
    (0, 3, 49),
    (2, 0, 7),
    (2, 3, 0),
    (1, 3, 1),
    (2, 1, 1),
    (97, 1, 2),
    (7, 64, 1),
    (1, 3, 97),
    (2, 3, 49),
    (7, 257, 2),
    (2, 1, 5_000),
    (97, 3, 196),
    (3, 257, 400),
    (600, 257, 1),
    (3, 70_001, 1),
    (1, 2, 150_001),
)
SLOPES = (None, 0.0, 0.01, 1.5)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_forward_and_backward(make, threads, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout, slope=0.01)
    y, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    p.assert_statistics(mean, inv_std)
    p.assert_output(y, mean, inv_std, p.gamma, p.beta)
    saved = (p.grad, p.x, p.gamma, p.beta, mean, inv_std)
    got = ops.batch_norm_backward(*saved, **p.how)
    p.assert_gradients(got, ref.batch_norm_backward(*saved, **p.how), p.gamma, inv_std, mean)


@pytest.mark.parametrize("affine", ["both", "gamma", "beta", "neither"])
@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_options(make, dtype, layout, slope, affine):
    p = Problem(make, (5, 3, 97), dtype, layout, slope)
    gamma = p.gamma if affine in ("both", "gamma") else None
    beta = p.beta if affine in ("both", "beta") else None
    z = ref.batch_norm_forward(p.x, gamma, beta, 0.25, channel_axis=p.axis)[0]
    p.grad[np.abs(z) < 1e-3] = 0

    y, mean, inv_std = ops.batch_norm_forward(p.x, gamma, beta, eps=0.25, **p.how)
    p.assert_statistics(mean, inv_std, eps=0.25)
    p.assert_output(y, mean, inv_std, gamma, beta)

    saved = (p.grad, p.x, gamma, beta, mean, inv_std)
    got = ops.batch_norm_backward(*saved, **p.how)
    p.assert_gradients(got, ref.batch_norm_backward(*saved, **p.how), gamma, inv_std, mean)

    running = (p.beta / 2, np.abs(p.gamma))
    y = ops.batch_norm_inference(p.x, gamma, beta, *running, eps=0.25, **p.how)
    inv_std = 1 / np.sqrt(running[1].astype(np.float64) + 0.25)
    p.assert_output(y, running[0], inv_std, gamma, beta)

    z = ref.batch_norm_inference(p.x, gamma, beta, *running, 0.25, channel_axis=p.axis)
    p.grad[np.abs(z) < 1e-3] = 0
    frozen = (p.grad, p.x, gamma, beta, *running)
    got = ops.batch_norm_inference_backward(*frozen, eps=0.25, **p.how)
    expected = ref.batch_norm_inference_backward(*frozen, eps=0.25, **p.how)
    p.assert_gradients(got, expected, gamma, inv_std, running[0])


@pytest.mark.parametrize("slope", [None, 0.01, 1.5])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 3, 97), (2, 257, 196)], ids=str)
def test_backward_from_output(make, dtype, layout, shape, slope):
    p = Problem(make, shape, dtype, layout, slope)
    y, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    saved = (p.grad, y, p.gamma, p.beta, inv_std)
    got = ops.batch_norm_backward_from_output(*saved, **p.how)
    # beta may dwarf xhat: recovering z - beta costs a rounding of beta / gamma.
    lost = 8 * (1 + float(np.max(np.abs(p.beta / p.gamma))))
    expected = ref.batch_norm_backward_from_output(*saved, **p.how)
    p.assert_gradients(got, expected, p.gamma, inv_std, mean, ulps=lost)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_half_of_the_digits_can_be_recovered_or_it_is_an_error(make, dtype):
    p = Problem(make, (5, 3, 97), dtype, slope=0.5)
    root = float(ml_dtypes.finfo(p.x.dtype).eps) ** -0.5
    p.gamma[:], p.beta[:] = 0.5, 0.0
    for ratio in (0.95, -0.95, 1.05, -1.05):
        p.beta[1] = 0.5 * ratio * root
        y, _, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
        saved = (p.grad, y, p.gamma, p.beta, inv_std)
        if abs(ratio) < 1:
            ops.batch_norm_backward_from_output(*saved, **p.how)
        else:
            message = rf"`gamma` must be at least 0\.52.* of {dtype}.*gamma\[1\]=0\.5, beta\[1\]="
            with pytest.raises(ValueError, match=message):
                ops.batch_norm_backward_from_output(*saved, **p.how)


@pytest.mark.parametrize("affine", ["gamma", "beta", "neither"])
def test_backward_from_output_without_affine(make, affine):
    p = Problem(make, (5, 3, 97), slope=0.2)
    gamma = p.gamma if affine == "gamma" else None
    beta = p.beta if affine == "beta" else None
    y, mean, inv_std = ops.batch_norm_forward(p.x, gamma, beta, **p.how)
    p.grad[np.abs(y) < 1e-3] = 0
    saved = (p.grad, y, gamma, beta, inv_std)
    got = ops.batch_norm_backward_from_output(*saved, **p.how)
    expected = ref.batch_norm_backward_from_output(*saved, **p.how)
    p.assert_gradients(got, expected, gamma, inv_std, mean, ulps=40)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("outliers", [(), (0,), (-1,), (0, 1, 2), (5_000,)], ids=str)
@pytest.mark.parametrize("shape", [(40, 3, 250), (10_000, 3, 1), (1, 3, 10_000)], ids=str)
@pytest.mark.parametrize("distance", [1e4, 1e6])
def test_variance_far_from_zero(make, threads, distance, shape, outliers, layout):
    """mean / std = 1e4 in float32, also where single values are far away, the first above all."""
    x = make.normal(shape, mean=distance)
    flat = x.reshape(shape[0], 3, -1).transpose(0, 2, 1).reshape(-1, 3).copy()
    flat[list(outliers), 1] = 0.0
    x = flat.reshape(shape[0], shape[2], 3).transpose(0, 2, 1)
    x, axis = arranged(np.ascontiguousarray(x), layout)
    mean, m2, count = ref.batch_norm_statistics(x, axis)
    running = np.zeros(3, np.float32), np.zeros(3, np.float32)
    how = {"eps": 0.0, "momentum": 1.0, "unbiased_running_var": False, "channel_axis": axis}
    keep = dict(zip(("running_mean", "running_var"), running, strict=True))
    inv_std = ops.batch_norm_forward(x, None, None, **keep, **how)[2]
    np.testing.assert_allclose(1.0 / inv_std.astype(np.float64) ** 2, m2 / count, rtol=1e-5)
    np.testing.assert_allclose(running[1], m2 / count, rtol=1e-5)
    np.testing.assert_allclose(running[0], mean, rtol=1e-6)
    np.testing.assert_allclose(ops.batch_norm_statistics(x, channel_axis=axis)[1], m2, rtol=1e-5)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_awkward_memory(make, awkward, dtype, layout):
    p = Problem(make, (7, 3, 49), dtype, layout, slope=0.1)
    vectors = awkward(p.gamma), awkward(p.beta)
    y, mean, inv_std = ops.batch_norm_forward(awkward(p.x), *vectors, **p.how)
    p.assert_statistics(mean, inv_std)
    p.assert_output(y, mean, inv_std, p.gamma, p.beta)
    saved = (p.gamma, p.beta, mean, inv_std)
    expected = ref.batch_norm_backward(p.grad, p.x, *saved, **p.how)
    for grad, x in ((awkward(p.grad), p.x), (p.grad, awkward(p.x)), map(awkward, (p.grad, p.x))):
        got = ops.batch_norm_backward(grad, x, *saved, **p.how)
        p.assert_gradients(got, expected, p.gamma, inv_std, mean)
    y = ops.batch_norm_inference(awkward(p.x), *vectors, awkward(mean), awkward(inv_std), **p.how)
    p.assert_output(y, mean, 1 / np.sqrt(inv_std.astype(np.float64) + 1e-5), p.gamma, p.beta)


@pytest.mark.parametrize("nbytes", [1, 4, 28])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_alignment_changes_no_bit(make, layout, nbytes):
    p = Problem(make, (7, 5, 197), layout=layout, slope=0.1)
    saved = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)[1:]
    aligned = (
        *ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how),
        *ops.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, *saved, **p.how),
    )
    x, grad = make.offset(p.x, nbytes), make.offset(p.grad, nbytes)
    shifted = (
        *ops.batch_norm_forward(x, p.gamma, p.beta, **p.how),
        *ops.batch_norm_backward(grad, x, p.gamma, p.beta, *saved, **p.how),
    )
    for a, b in zip(aligned, shifted, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("nbytes", [0, 1, 8])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_outputs_too_large_for_the_caches_have_the_bits_of_in_place_ones(
    make, threads, dtype, layout, nbytes
):
    """Large new outputs are written past the caches, whatever their alignment."""
    outer = 8_500_000 // (64 * 196 * dtype.itemsize)
    x = np.resize(make.normal((10_007,), dtype), (outer, 64, 196))
    x, axis = arranged(x, layout)
    gamma, beta = make.uniform((64,), ref.statistics_dtype(dtype)), None
    how = {"negative_slope": 0.1, "channel_axis": axis}
    out = make.offset(np.zeros_like(x), nbytes)
    _, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, out=out, **how)
    in_place = x.copy()
    ops.batch_norm_forward(in_place, gamma, beta, out=in_place, **how)
    np.testing.assert_array_equal(out, in_place)

    saved = (gamma, beta, mean, inv_std)
    ops.batch_norm_backward(in_place, x, *saved, out=out, **how)
    ops.batch_norm_backward(in_place, x, *saved, out=in_place, **how)
    np.testing.assert_array_equal(out, in_place)

    ops.leaky_relu(x, 0.3, out=out)
    ops.leaky_relu(x, 0.3, out=x)
    np.testing.assert_array_equal(out, x)


def test_a_broadcast_gradient(make):
    p = Problem(make)
    _, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta)
    grad = np.broadcast_to(np.float32(0.5), p.x.shape)
    saved = (p.x, p.gamma, p.beta, mean, inv_std)
    got = ops.batch_norm_backward(grad, *saved)
    p.grad = grad
    p.assert_gradients(got, ref.batch_norm_backward(grad, *saved), p.gamma, inv_std, mean)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
def test_any_channel_axis(make, axis):
    x, grad = make.normal((3, 4, 5, 6)), make.normal((3, 4, 5, 6))
    n = x.shape[axis]
    gamma, beta = make.uniform((n,)), make.normal((n,))
    y, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, channel_axis=axis)
    expected = ref.batch_norm_forward(x, gamma, beta, channel_axis=axis)
    np.testing.assert_allclose(y, expected[0], atol=2e-5)
    np.testing.assert_allclose(mean, expected[1], atol=1e-6)
    saved = (grad, x, gamma, beta, mean, inv_std)
    got = ops.batch_norm_backward(*saved, channel_axis=axis)
    for a, b in zip(got, ref.batch_norm_backward(*saved, channel_axis=axis), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_out_and_in_place(make, dtype, layout):
    p = Problem(make, (5, 3, 49), dtype, layout, slope=0.2)
    y, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    saved = (p.gamma, p.beta, mean, inv_std)
    grads = ops.batch_norm_backward(p.grad, p.x, *saved, **p.how)
    same = np.testing.assert_array_equal

    out = make.offset(p.x)
    assert ops.batch_norm_forward(p.x, p.gamma, p.beta, out=out, **p.how)[0] is out
    same(out, y)
    outs = np.empty_like(p.x), np.empty_like(mean), np.empty_like(mean)
    for got, given in zip(
        ops.batch_norm_forward(p.x, p.gamma, p.beta, out=outs, **p.how), outs, strict=True
    ):
        assert got is given
    for given, expected in zip(outs, (y, mean, inv_std), strict=True):
        same(given, expected)
    outs = np.empty_like(p.x), np.empty_like(mean), np.empty_like(mean)
    ops.batch_norm_backward(p.grad, p.x, *saved, out=outs, **p.how)
    for given, expected in zip(outs, grads, strict=True):
        same(given, expected)

    x, grad = p.x.copy(), p.grad.copy()
    assert ops.batch_norm_backward(grad, x, *saved, out=grad, **p.how)[0] is grad
    same(grad, grads[0])
    grad = p.grad.copy()
    assert ops.batch_norm_backward(grad, x, *saved, out=x, **p.how)[0] is x
    same(x, grads[0])
    x = p.x.copy()
    assert ops.batch_norm_forward(x, p.gamma, p.beta, out=x, **p.how)[0] is x
    same(x, y)

    args = (p.gamma, p.beta, inv_std)
    from_output = ops.batch_norm_backward_from_output(grad, y, *args, **p.how)
    own_y, own_grad = y.copy(), grad.copy()
    ops.batch_norm_backward_from_output(own_grad, y, *args, out=own_grad, **p.how)
    same(own_grad, from_output[0])
    ops.batch_norm_backward_from_output(grad, own_y, *args, out=own_y, **p.how)
    same(own_y, from_output[0])

    running = mean, np.abs(p.gamma)
    y = ops.batch_norm_inference(p.x, p.gamma, p.beta, *running, **p.how)
    x = p.x.copy()
    assert ops.batch_norm_inference(x, p.gamma, p.beta, *running, out=x, **p.how) is x
    same(x, y)
    frozen = ops.batch_norm_inference_backward(p.grad, p.x, p.gamma, p.beta, *running, **p.how)
    grad = p.grad.copy()
    args = (grad, p.x, p.gamma, p.beta, *running)
    assert ops.batch_norm_inference_backward(*args, out=grad, **p.how)[0] is grad
    same(grad, frozen[0])


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("slope", [None, 0.2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_by_finite_differences(make, layout, slope, affine):
    p = Problem(make, (4, 2, 3), np.float64, layout, slope)
    gamma, beta = (p.gamma, p.beta) if affine else (None, None)
    running = p.beta / 2, np.abs(p.gamma)
    y, mean, inv_std = ops.batch_norm_forward(p.x, gamma, beta, eps=1e-3, **p.how)
    saved = (gamma, beta, mean, inv_std)
    analytic = {
        "train": ops.batch_norm_backward(p.grad, p.x, *saved, **p.how),
        "in place": ops.batch_norm_backward_from_output(p.grad, y, gamma, beta, inv_std, **p.how),
        "frozen": ops.batch_norm_inference_backward(
            p.grad, p.x, gamma, beta, *running, eps=1e-3, **p.how
        ),
    }

    def loss(mode, x, gamma, beta):
        if mode == "frozen":
            y = ops.batch_norm_inference(x, gamma, beta, *running, eps=1e-3, **p.how)
        else:
            y = ops.batch_norm_forward(x, gamma, beta, eps=1e-3, **p.how)[0]
        return float((p.grad * y).sum())

    for mode, grads in analytic.items():
        arguments = [p.x, gamma, beta]
        for which, (grad, value) in enumerate(zip(grads, arguments, strict=True)):
            for i in np.ndindex(() if value is None else value.shape):
                if value is None:
                    continue
                sides = []
                for h in (1e-6, -1e-6):
                    moved = value.copy()
                    moved[i] += h
                    sides.append(loss(mode, *arguments[:which], moved, *arguments[which + 1 :]))
                numeric = (sides[0] - sides[1]) / 2e-6
                assert grad[i] == pytest.approx(numeric, abs=2e-8), (mode, which, i)


class TestRunningStatistics:
    @staticmethod
    def fresh(dtype=np.float32):
        return np.array([0.5, -2, 3], dtype), np.array([1.5, 0.25, 4], dtype)

    @pytest.mark.parametrize("momentum", [0.0, 0.1, 0.99, 1.0])
    @pytest.mark.parametrize("unbiased", [True, False])
    @pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_update(self, make, layout, dtype, unbiased, momentum):
        p = Problem(make, (4, 3, 5), dtype, layout)
        mean, var = self.fresh(p.gamma.dtype)
        expected = ref.running_statistics(p.x, mean, var, momentum, unbiased, p.axis)
        exact_mean, m2, _ = ref.batch_norm_statistics(p.x, p.axis)
        ops.batch_norm_forward(
            p.x,
            p.gamma,
            p.beta,
            running_mean=mean,
            running_var=var,
            momentum=momentum,
            unbiased_running_var=unbiased,
            channel_axis=p.axis,
        )
        scale = np.abs(exact_mean) + np.sqrt(m2) + 5
        ref.assert_near(mean, expected[0], ulps=2, scale=scale)
        ref.assert_near(var, expected[1], ulps=4)

    def test_defaults_are_those_of_torch(self, make):
        x = make.normal((4, 3, 5))
        mean, var = self.fresh()
        expected = ref.running_statistics(x, mean, var, 0.1, unbiased=True)
        ops.batch_norm_forward(x, None, None, running_mean=mean, running_var=var)
        np.testing.assert_allclose(mean, expected[0], rtol=1e-5)
        np.testing.assert_allclose(var, expected[1], rtol=1e-5)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_an_empty_batch_leaves_them_alone(self, make, layout):
        x, axis = arranged(make.normal((0, 3, 7)), layout)
        mean, var = self.fresh()
        y, batch_mean, inv_std = ops.batch_norm_forward(
            x, None, None, running_mean=mean, running_var=var, eps=0.25, channel_axis=axis
        )
        assert y.shape == x.shape
        np.testing.assert_array_equal(batch_mean, [0, 0, 0])
        np.testing.assert_array_equal(inv_std, [2, 2, 2])
        np.testing.assert_array_equal((mean, var), self.fresh())
        grads = ops.batch_norm_backward(x, x, None, None, batch_mean, inv_std, channel_axis=axis)
        assert grads[0].shape == x.shape
        np.testing.assert_array_equal(grads[1:], np.zeros((2, 3)))

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_one_element_per_channel(self, make, layout):
        x, axis = arranged(make.normal((1, 3, 1)), layout)
        how = {"eps": 0.25, "channel_axis": axis}
        beta = make.normal((3,))
        y, mean, inv_std = ops.batch_norm_forward(x, None, beta, **how)
        np.testing.assert_array_equal(mean, x.ravel())
        np.testing.assert_array_equal(inv_std, [2, 2, 2])
        np.testing.assert_array_equal(y.ravel(), beta)

        mean, var = self.fresh()
        keep = {"running_mean": mean, "running_var": var}
        with pytest.raises(ValueError, match=r"`unbiased_running_var`"):
            ops.batch_norm_forward(x, None, None, **keep, **how)
        np.testing.assert_array_equal((mean, var), self.fresh())

        expected = ref.running_statistics(x, mean, var, unbiased=False, channel_axis=axis)
        ops.batch_norm_forward(x, None, None, **keep, unbiased_running_var=False, **how)
        np.testing.assert_allclose((mean, var), expected, rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_stays_in_its_channel(make, layout):
    shape = (5, 3, 7)
    x = make.normal(shape)
    x[2, 1, 3] = np.nan
    x, axis = arranged(x, layout)
    y, mean, inv_std = ops.batch_norm_forward(x, None, None, negative_slope=0.1, channel_axis=axis)
    for result in (mean, inv_std):
        np.testing.assert_array_equal(np.isnan(result), [False, True, False])
    y = np.moveaxis(y, axis, 0)
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, 3.14159, 1e4])
def test_a_constant_channel_has_no_variance(dtype, value):
    x = np.full((3, 2, 1000), value).astype(dtype)
    y, mean, inv_std = ops.batch_norm_forward(x, None, None, eps=1.0)
    np.testing.assert_array_equal(mean, x[0, :, 0].astype(mean.dtype))
    np.testing.assert_array_equal(inv_std, [1, 1])
    np.testing.assert_array_equal(y, np.zeros_like(x))
