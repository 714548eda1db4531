"""Results for arrays of packages whose arrays cannot be written; arrays that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import ops

jax = pytest.importorskip("jax")
jnp = jax.numpy

DTYPES = ["float32", "float16", "bfloat16"]


def normal(make, shape, dtype="float32"):
    return jnp.asarray(make.normal(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (97, 5)])
def test_leaky_relu_of_jax_arrays(make, shape, dtype):
    x, grad = normal(make, shape, dtype), normal(make, shape, dtype)
    results = ops.leaky_relu(x, 0.1), ops.leaky_relu_backward(grad, x, 0.1)
    n, g = np.asarray(x), np.asarray(grad)
    for ours, expected in zip(
        results, (ops.leaky_relu(n, 0.1), ops.leaky_relu_backward(g, n, 0.1)), strict=True
    ):
        assert isinstance(ours, jax.Array)
        assert (ours.dtype, ours.shape) == (x.dtype, shape)
        np.testing.assert_array_equal(ours, expected)


def every_batch_norm(x, grad, gamma, beta):
    forward = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
    y, mean, inv_std = forward
    statistics = ops.batch_norm_statistics(x)
    merged = ops.merge_statistics([statistics, statistics])
    sums = ops.batch_norm_backward_reduce(grad, x, gamma, beta, mean, inv_std)
    return [
        *forward,
        *ops.batch_norm_backward(grad, x, gamma, beta, mean, inv_std, negative_slope=0.1),
        *ops.batch_norm_backward_from_output(grad, y, gamma, beta, inv_std, negative_slope=0.1),
        ops.batch_norm_inference(x, gamma, beta, mean, inv_std),
        *ops.batch_norm_inference_backward(grad, x, gamma, beta, mean, inv_std),
        *statistics[:2],
        *merged[:2],
        ops.batch_norm_apply(x, mean, inv_std, gamma, beta),
        *sums,
        ops.batch_norm_backward_apply(grad, x, gamma, beta, mean, inv_std, *sums, x.shape[0]),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_of_jax_arrays(make, dtype):
    arrays = [normal(make, (33, 7), dtype), normal(make, (33, 7), dtype), 1 + normal(make, 7) ** 2]
    arrays.append(normal(make, 7))
    results = every_batch_norm(*arrays)
    for ours, expected in zip(results, every_batch_norm(*map(np.asarray, arrays)), strict=True):
        assert isinstance(ours, jax.Array)
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


def test_float64_of_jax(make):
    with jax.enable_x64(True):
        x = normal(make, (5, 3), "float64")
        y, mean, _ = ops.batch_norm_forward(x, None, None)
        assert (y.dtype, mean.dtype) == ("float64", "float64")


def test_memory_of_results_is_taken_over():
    """What is not where JAX wants it would be copied; of no elements there is no memory."""
    for size in (1, 97, 1 << 20):
        own = ops.arrays.full_output("x", jnp.ones(size))
        (given,) = ops.arrays.given_back(jnp.ones(1), None, own)
        assert given.unsafe_buffer_pointer() == own.ctypes.data


def test_what_the_caller_gives_stays_its_own():
    x, y, mean = jnp.ones((4, 3)), np.empty((4, 3), "float32"), np.empty(3, "float32")
    assert ops.leaky_relu(x, out=y) is y
    results = ops.batch_norm_forward(x, None, None, out=(y, mean, None))
    assert results[0] is y
    assert results[1] is mean
    assert isinstance(results[2], jax.Array)
    assert ops.batch_norm_forward(x, None, None, out=y)[0] is y


def test_arrays_of_jax_are_not_written():
    with pytest.raises(ValueError, match="`out` must be writable"):
        ops.leaky_relu(jnp.ones(3), out=jnp.ones(3))
    with pytest.raises(ValueError, match=r"`params\[0\]` must be writable"):
        ops.sgd_step([jnp.ones(3)], [jnp.ones(3)], None, step=1, lr=1.0)


def test_a_deleted_array_is_named():
    x = jnp.ones(3)
    x.delete()
    for out in (None, np.empty(3, "float32")):
        with pytest.raises(ValueError, match="`x` must be an array that still has its memory"):
            ops.leaky_relu(x, out=out)


@pytest.mark.parametrize("trace", [jax.jit, jax.vmap, jax.grad])
def test_tracers_are_refused_with_the_way_out(trace):
    x = jnp.ones((2, 3))
    message = r"must be .*while JAX traces.*use fusednn\.jax there\. Received: type=\w+Tracer"
    with pytest.raises(TypeError, match="`x` " + message):
        trace(lambda x: ops.leaky_relu(x).sum())(x)
    with pytest.raises(TypeError, match=r"`grads\[0\]` " + message):
        trace(lambda x: ops.sgd_step([np.ones((2, 3), np.float32)], [x], None, step=1, lr=0.1))(x)
    with pytest.raises(TypeError, match=r"`x` must be an array of NumPy, .* type=ShapeDtypeStruct"):
        ops.leaky_relu(jax.eval_shape(jnp.sin, x))


class Producer:
    """Shares what `share` returns."""

    def __init__(self, share):
        self.share = share

    def __dlpack__(self, **_):
        return self.share()

    def __dlpack_device__(self):
        return (1, 0)


class OwnError(Exception):
    pass


def raising(error):
    def share():
        raise error

    return share


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("boom"), ValueError),
        (BufferError("boom"), BufferError),
        (OwnError("boom"), RuntimeError),
    ],
)
def test_what_a_producer_raises_names_the_argument(error, kind):
    with pytest.raises(
        kind, match=r"`x` must be an array that DLPack can share.*Producer.*boom"
    ) as e:
        ops.leaky_relu(Producer(raising(error)), out=np.empty(3, "float32"))
    assert e.value.__cause__ is error


def shared(array):
    """The memory of `array` as any package offers it: DLPack 1.1, with strides and flags."""
    return Producer(lambda: array.__dlpack__(max_version=(1, 1)))


SHOWN = {
    "sliced": lambda a: np.repeat(a, 2, 1)[:, ::2],
    "reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "expanded": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (0, 4)),
}


@pytest.mark.parametrize("how", SHOWN)
def test_gaps_and_expanded_axes_of_other_packages_are_refused(make, how):
    """Of packages in which nobody here could make a copy."""
    x = np.asarray(make.normal((33, 7)), np.float32)
    y = np.full_like(x, 7)
    with pytest.raises(ValueError, match=r"`x` must be dense in memory.*strides=\("):
        ops.leaky_relu(shared(SHOWN[how](x)), 0.1, out=y)
    assert (y == 7).all()


def test_axes_in_another_order_are_taken(make):
    x = np.asarray(make.normal((33, 7)), np.float32)
    transposed, y = x.T.copy().T, np.empty((7, 33), np.float32).T
    ops.leaky_relu(shared(transposed), 0.1, out=y)
    np.testing.assert_array_equal(y, ops.leaky_relu(x, 0.1))
    with pytest.raises(ValueError, match=r"`out` must .*layout.*strides=\(7, 1\)"):
        ops.leaky_relu(shared(transposed), 0.1, out=np.empty_like(x))


def test_outputs_of_any_package_are_refused_as_those_of_numpy_are():
    x, wide = np.ones((4, 3), np.float32), np.full((4, 6), 7, np.float32)
    fixed = np.full((4, 3), 7, np.float32)
    fixed.setflags(write=False)
    refused = [
        (wide[:, ::2], r"`out` must be dense.*strides=\(6, 2\)"),
        (np.lib.stride_tricks.as_strided(wide, (4, 3), (0, 4)), r"`out` must be dense.*=\(0, 1\)"),
        (fixed, "`out` must be writable. Received: a read-only array"),
    ]
    for out, message in refused:
        with pytest.raises(ValueError, match=message):
            ops.leaky_relu(x, out=shared(out))
        assert (out == 7).all()
    line = np.ones(20, np.float32)
    with pytest.raises(ValueError, match="`out` must not overlap `x`"):
        ops.leaky_relu(shared(line[:12]), 0.1, out=shared(line[4:16]))
    assert (line == 1).all()
    ops.leaky_relu(shared(-line), 0.5, out=shared(line))
    assert (line == -0.5).all()


def test_outputs_over_the_memory_of_jax_arrays_are_refused(make):
    torch = pytest.importorskip("torch")
    x = normal(make, (33, 7))
    before = np.array(x)
    inside = torch.from_dlpack(x).flatten()
    with pytest.raises(ValueError, match="`running_mean` must not overlap `x`"):
        ops.batch_norm_forward(
            x, None, None, running_mean=inside[3:10], running_var=np.ones(7, "f4")
        )
    with pytest.raises(ValueError, match="`out` must not overlap `running_mean`"):
        ops.batch_norm_inference(
            x, None, None, inside[:7], np.ones(7, "f4"), out=torch.from_dlpack(x)
        )
    np.testing.assert_array_equal(x, before)


def test_what_is_no_fault_of_the_array_passes():
    with pytest.raises(KeyboardInterrupt):
        ops.leaky_relu(Producer(raising(KeyboardInterrupt())), out=np.empty(3, "float32"))


def test_capsules_that_are_none():
    capsule = np.ones(3, "float32").__dlpack__()
    out = np.empty(3, "float32")
    ops.leaky_relu(Producer(lambda: capsule), out=out)
    for made, received in ((3, "int"), (capsule, "PyCapsule")):
        with pytest.raises(TypeError, match=f"`x` must give a new capsule of DLPack.*={received}"):
            ops.leaky_relu(Producer(lambda made=made: made), out=out)


def test_other_packages_need_out():
    x = Producer(np.ones(3, "float32").__dlpack__)
    with pytest.raises(TypeError, match=r"`x` must be an array of NumPy, CuPy or PyTorch.*`out`"):
        ops.leaky_relu(x)
