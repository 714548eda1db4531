"""BatchNorm's passes bound to arrays: the bits of the calls that they replace, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusednn import _core
from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
from fusednn.layers.batch_norm_steps import BatchNormStep
from fusednn.models import Sequential
from fusednn.optimizers import SGD


def normal(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def trained(
    monkeypatch: pytest.MonkeyPatch, *, bound: bool, dtype: str, rows: int, **options: Any
) -> list[np.ndarray]:
    """Weights, moving statistics among them, after three steps of a network."""
    if not bound:

        def by_calls(step: BatchNormStep, x: np.ndarray) -> Any:
            return lambda: step._forward_of(x)

        monkeypatch.setattr(BatchNormStep, "_bound_forward", by_calls)
        monkeypatch.delattr(_core, "bound_batch_norm_backward")
        bind = BatchNormStep.bind

        def elsewhere(step: BatchNormStep, *args: Any, **kwargs: Any) -> None:
            bind(step, *args, **kwargs)
            step._on_cpu = False

        monkeypatch.setattr(BatchNormStep, "bind", elsewhere)
    first = Dense(97, bias_initializer="ones", dtype=dtype)
    norm = BatchNormalization(momentum=0.9, dtype=dtype, **options)
    layers = [first, norm, LeakyReLU(0.1, dtype=dtype), Dense(3, dtype=dtype)]
    model = Sequential([Input((7,)), *layers])
    model.compile(SGD(0.1), "mse")
    weights = [normal(*w.shape, seed=i, dtype=dtype) for i, w in enumerate(model.get_weights())]
    model.set_weights([abs(w) for w in weights])
    for seed in range(3):
        x, y = normal(rows, 7, seed=seed, dtype=dtype), normal(rows, 3, seed=9 + seed, dtype=dtype)
        model.train_on_batch(x, y)
    return model.get_weights()


@pytest.mark.parametrize("options", [{}, {"scale": False, "center": False}])
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_of_the_calls_that_it_replaces(
    dtype: str, rows: int, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained(monkeypatch, bound=True, dtype=dtype, rows=rows, **options)
    expected = trained(monkeypatch, bound=False, dtype=dtype, rows=rows, **options)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_first_layer_reads_each_batch_that_it_is_given() -> None:
    norm = BatchNormalization(momentum=0.5)
    model = Sequential([Input((5,)), norm, Dense(2)])
    model.compile(SGD(0.1), "mse")
    mean = np.zeros(5)
    for seed in range(3):
        x = normal(16, 5, seed=seed)
        model.train_on_batch(x, normal(16, 2))
        mean = 0.5 * mean + 0.5 * x.mean(axis=0)
        np.testing.assert_allclose(norm.moving_mean.value, mean, rtol=1e-5, atol=1e-6)


def test_a_batch_that_is_not_in_c_order() -> None:
    norm = BatchNormalization()
    norm.build((None, 5))
    x = normal(5, 16).T
    y = norm(x, training=True)
    expected = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + norm.epsilon)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_step_whose_loss_is_not_finite_is_undone() -> None:
    model = Sequential([Input((5,)), Dense(4, bias_initializer="ones"), BatchNormalization()])
    model.compile(SGD(0.1), "mse")
    x, y = normal(16, 5), normal(16, 4, seed=1)
    model.train_on_batch(x, y)
    before = model.get_weights()
    x[3] = np.nan
    assert np.isnan(model.train_on_batch(x, y))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


#: In order.
ARGUMENTS = (
    *("x", "gamma", "beta", "running_mean", "running_var", "momentum", "eps", "negative_slope"),
    *("channel_axis", "out", "mean", "inv_std", "mean_before", "var_before", "shift"),
)


def forward_arguments(**changes: Any) -> dict[str, Any]:
    given = {name: np.ones(5, "float32") for name in ARGUMENTS}
    numbers = {"momentum": 0.1, "eps": 1e-3, "negative_slope": None, "channel_axis": 1}
    arrays = {"x": normal(7, 5), "out": np.zeros((7, 5), "float32"), "shift": None}
    return given | numbers | arrays | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": normal(5, 7).T}, "`x` must be an array of NumPy in C order"),
        ({"gamma": np.ones(10, "float32")[::2]}, "`gamma` must be an array of NumPy in C order"),
        ({"out": [[1.0]]}, "`out` must be an array of NumPy in C order"),
        ({"mean_before": np.ones(4, "float32")}, "`mean_before` must be of the size and dtype of"),
        ({"var_before": np.ones(5)}, "`var_before` must be of the size and dtype of"),
        ({"running_var": np.ones(6, "float32")}, "`running_var` must be of the size and dtype of"),
        ({"shift": np.ones(7, "float32")}, "`shift` must be of the size and dtype of"),
    ],
)
def test_arguments_that_are_refused_when_it_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.bound_batch_norm_forward(*forward_arguments(**changes).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.5}, "`momentum` must be in"),
        ({"gamma": np.ones(4, "float32")}, "`gamma` must have"),
        ({"out": np.zeros((5, 7), "float32")}, "must have the shape"),
    ],
)
def test_arguments_that_the_kernel_refuses(changes: dict[str, Any], message: str) -> None:
    given = forward_arguments(**changes)
    given["running_mean"][...] = 3
    call = _core.bound_batch_norm_forward(*given.values())
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    assert (given["running_mean"] == 3).all()


def test_gradients_that_the_kernel_refuses() -> None:
    vectors = [np.ones(5, "float32") for _ in range(6)]
    x, grad, out = normal(7, 5), normal(7, 5), np.zeros((7, 4), "float32")
    call = _core.bound_batch_norm_backward(grad, x, *vectors[:4], None, 1, out, *vectors[4:])
    with pytest.raises(ValueError, match="`"):
        call()
