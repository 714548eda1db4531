"""`fusednn.jax` on a GPU: its handlers in compiled programs. Without a GPU the CPU's stand in.

The answers are those of `fusednn.ops` on the CPU, to the bit where no sums are part of them.
"""

from __future__ import annotations

import os
import warnings
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from devices import STANDS_IN

import reference as ref
from batch_norm_problem import Problem
from fusednn import ops

pytestmark = pytest.mark.short

SIZES = ((1,), (0,), (3, 5, 7), (5000,))


@pytest.fixture(scope="module")
def on_gpu() -> Any:
    """Copies NumPy's arrays to where the tests compute."""
    # Else XLA takes most of the GPU's memory at once, which other tests need, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax, _ = import_module("jax"), import_module("fusednn.jax")
            device = jax.devices("cpu" if STANDS_IN else "cuda")[0]
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no JAX on a GPU: {error}")
    return partial(jax.tree.map, lambda array: jax.device_put(np.array(array), device))


def test_leaky_relu(on_gpu, make):
    import jax

    import fusednn.jax as fj

    for shape in ((7,), (0, 3), (33, 65)):
        x, grad = make.normal(shape), make.normal(shape)
        y, back = jax.vjp(partial(fj.leaky_relu, negative_slope=0.1), on_gpu(x))
        ref.assert_same_numbers(np.asarray(y), ops.leaky_relu(x, 0.1))
        expected = ops.leaky_relu_backward(grad, x, 0.1)
        ref.assert_same_numbers(np.asarray(back(on_gpu(grad))[0]), expected)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [ref.DTYPES[0], ref.DTYPES[3]], ids=str)
def test_batch_norm(on_gpu, make, dtype, layout):
    import jax

    import fusednn.jax as fj

    p = Problem(make, (5, 7, 49), dtype, layout, slope=0.1)
    running = np.zeros(7, np.float32), np.ones(7, np.float32)

    @jax.jit
    def both(x, gamma, beta, running, grad):
        def normalise(x, gamma, beta):
            return fj.batch_norm(
                *(x, gamma, beta, *running),
                momentum=0.3,
                negative_slope=0.1,
                channel_axis=p.axis,
            )

        results, back = jax.vjp(normalise, x, gamma, beta)
        zeros = jax.tree.map(jax.numpy.zeros_like, results[1:])
        return results, back((grad, *zeros))

    results, gradients = both(*on_gpu((p.x, p.gamma, p.beta, running, p.grad)))
    expected = ops.batch_norm_forward(
        *(p.x, p.gamma, p.beta),
        running_mean=running[0],
        running_var=running[1],
        momentum=0.3,
        unbiased_running_var=False,
        **p.how,
    )
    saved = expected[1:]
    of_gradients = ops.batch_norm_backward(p.grad, p.x, p.gamma, p.beta, *saved, **p.how)
    tolerance = 1e-5 if dtype == np.float32 else 1e-2
    for ours, theirs in zip(
        (*results, *gradients), (expected[0], *running, *of_gradients), strict=True
    ):
        wide = np.asarray(ours).astype(np.float64), theirs.astype(np.float64)
        np.testing.assert_allclose(*wide, rtol=tolerance, atol=tolerance * np.abs(wide[1]).max())


def test_many_batches_at_once(on_gpu, make):
    import jax

    import fusednn.jax as fj

    x = make.normal((3, 20, 4))
    mean, var = np.zeros(4, np.float32), np.ones(4, np.float32)
    normalise = partial(fj.batch_norm_inference, gamma=None, beta=None, channel_axis=1)
    moved = jax.vmap(lambda one: normalise(one, running_mean=mean, running_var=var))(on_gpu(x))
    expected = [ops.batch_norm_inference(one, None, None, mean, var) for one in x]
    ref.assert_same_numbers(np.asarray(moved), np.stack(expected))


@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
@pytest.mark.parametrize("scaled", [False, True])
def test_optimizers(on_gpu, make, kind, scaled):
    import jax

    import fusednn.jax as fj

    params = [make.normal(size) for size in SIZES]
    states = ref.initial_states(kind, params, {})
    states = {name: [a.astype(np.float32) for a in arrays] for name, arrays in states.items()}
    convention = "optax" if kind != "nadam" else "torch"

    @partial(jax.jit, donate_argnums=(0, 2))
    def step(params, grads, states, lr, count, grad_scale):
        how = {"count": count, "grad_scale": grad_scale, "convention": convention}
        return fj.optimizer_step(kind, params, grads, states, {}, lr=lr, **how)

    own = on_gpu((params, states))
    for count, lr in enumerate(np.float32([0.1, 0.01, 0.03])):
        grads = [make.normal(size) for size in SIZES]
        scale = np.float32(4) if scaled else None
        moved, kept, stepped = step(own[0], on_gpu(grads), own[1], lr, count, scale)
        own = moved, kept
        how: dict[str, Any] = {"step": count + 1, "lr": float(lr), "convention": convention}
        if scaled:
            how["grad_scale"] = 4.0
        assert ref.call_step(ops, kind, params, grads, states, **how)
        assert int(stepped) == 1
    for ours, theirs in zip(jax.tree.leaves(own), jax.tree.leaves((params, states)), strict=True):
        ref.assert_same_numbers(np.asarray(ours), theirs)


def test_gradients_that_are_not_finite_are_found(on_gpu, make):
    import jax

    import fusednn.jax as fj

    param, grad = make.normal((5,)), make.normal((5,))
    grad[3] = np.inf
    states = {name: [np.zeros(5, np.float32)] for name in ("exp_avgs", "exp_avg_sqs")}
    step = jax.jit(partial(fj.optimizer_step, "adam", lr=0.1, count=0, skip_nonfinite=True))
    moved, _, stepped = step(*on_gpu(([param], [grad], states)), hyperparameters={})
    assert int(stepped) == 0
    np.testing.assert_array_equal(np.asarray(moved[0]), param)


def test_arrays_of_jax_are_inputs_of_ops(on_gpu, make):
    if STANDS_IN:
        pytest.skip("there is one memory")
    torch = pytest.importorskip("torch")
    x = make.normal((4, 5))
    out = torch.empty(4, 5, device="cuda")
    ops.leaky_relu(on_gpu(x), 0.1, out=out)
    ref.assert_same_numbers(out.cpu().numpy(), ops.leaky_relu(x, 0.1))
