"""The losses of elements and rows: formulas in float64, gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fusednn import losses
from fusednn.losses import (
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    SquaredHinge,
)
from gradient_check import normal

Formula = Callable[[np.ndarray, np.ndarray], np.ndarray]


def huber(e: np.ndarray, delta: float) -> np.ndarray:
    return np.where(np.abs(e) <= delta, e**2 / 2, delta * (np.abs(e) - delta / 2))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return 0.1 + np.abs(normal(*shape, seed=seed))


def signs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.sign(normal(*shape, seed=seed))


def one_hot(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.eye(width)[np.random.default_rng(seed).integers(0, width, rows)]


def shares(*shape: int, seed: int = 0) -> np.ndarray:
    x = positive(*shape, seed=seed)
    return 0.9 * x / x.sum(axis=-1, keepdims=True)


#: A loss, what it is of a row, and how targets and predictions are drawn.
CASES: dict[str, tuple[Loss, Formula, Callable, Callable]] = {
    "mae": (MeanAbsoluteError(), lambda t, p: np.abs(p - t).mean(-1), normal, normal),
    "mape": (
        MeanAbsolutePercentageError(),
        lambda t, p: 100 * np.abs((p - t) / t).mean(-1),
        positive,
        normal,
    ),
    "msle": (
        MeanSquaredLogarithmicError(),
        lambda t, p: ((np.log1p(p) - np.log1p(t)) ** 2).mean(-1),
        positive,
        positive,
    ),
    "huber": (Huber(), lambda t, p: huber(p - t, 1.0).mean(-1), normal, normal),
    "huber_0.3": (Huber(0.3), lambda t, p: huber(p - t, 0.3).mean(-1), normal, normal),
    "log_cosh": (LogCosh(), lambda t, p: np.log(np.cosh(p - t)).mean(-1), normal, normal),
    "poisson": (Poisson(), lambda t, p: (p - t * np.log(p + 1e-7)).mean(-1), positive, positive),
    "hinge": (Hinge(), lambda t, p: np.maximum(1 - t * p, 0).mean(-1), signs, normal),
    "squared_hinge": (
        SquaredHinge(),
        lambda t, p: (np.maximum(1 - t * p, 0) ** 2).mean(-1),
        signs,
        normal,
    ),
    "cosine": (CosineSimilarity(), lambda t, p: -(unit(t) * unit(p)).sum(-1), normal, normal),
    "kl": (KLDivergence(), lambda t, p: (t * np.log(t / p)).sum(-1), shares, shares),
    "categorical_hinge": (
        CategoricalHinge(),
        lambda t, p: np.maximum(((1 - t) * p).max(-1) - (t * p).sum(-1) + 1, 0),
        one_hot,
        normal,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (97, 10)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(name: str, shape: tuple[int, int], dtype: str) -> None:
    loss, formula, targets, predictions = CASES[name]
    t = targets(*shape, seed=1).astype(dtype)
    p = predictions(*shape, seed=2).astype(dtype)
    wide_t, wide_p = t.astype(np.float64), p.astype(np.float64)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    expected = formula(wide_t, wide_p)
    np.testing.assert_allclose(loss.call(t, p), expected, rtol=tolerance, atol=tolerance)
    assert loss(t, p) == pytest.approx(expected.mean(), rel=tolerance, abs=tolerance)

    numeric = np.empty(shape)
    for index in np.ndindex(*shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = wide_p.copy()
            moved[index] += step
            ends.append(formula(wide_t, moved).mean())
        numeric[index] = (ends[0] - ends[1]) / 2e-6
    value, gradient = loss.value_and_gradient(t, p)
    assert value == loss(t, p)
    scale = np.abs(numeric).max()
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=2e-6 * max(scale, 1))
    in_place = p.copy()
    again, same = loss.value_and_gradient(t, in_place, out=in_place)
    assert again == value
    np.testing.assert_array_equal(same, gradient)
    total, summed = (
        type(loss).from_config(loss.get_config() | {"reduction": "sum"}).value_and_gradient(t, p)
    )
    assert total == pytest.approx(value * shape[0])
    np.testing.assert_allclose(summed, gradient * shape[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_other_ranks_names_and_functions(name: str) -> None:
    loss, _, targets, predictions = CASES[name]
    t = targets(6, 5, seed=1).reshape(2, 3, 5)
    p = predictions(2, 3, 5, seed=2)
    flat = loss.call(t.reshape(6, 5), p.reshape(6, 5))
    np.testing.assert_array_equal(loss.call(t, p), flat.reshape(2, 3))
    again = losses.deserialize(losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    function = losses._of_function
    made = next(f for f, cls in function.items() if cls is type(loss))
    options = [loss.delta] if isinstance(loss, Huber) else []
    np.testing.assert_array_equal(made(t, p, *options), loss.call(t, p))
    assert type(losses.get(made)) is type(loss)
    assert type(losses.get(made.__name__)) is type(loss)


def test_hinge_takes_labels_of_zero_and_one() -> None:
    p = normal(9, 1)
    labels = (normal(9, 1, seed=1) > 0).astype(int)
    for loss in (Hinge(), SquaredHinge()):
        assert loss(labels, p) == loss(2 * labels - 1, p)
        a, b = (loss.value_and_gradient(t, p)[1] for t in (labels, 2 * labels - 1))
        np.testing.assert_array_equal(a, b)


def test_edges() -> None:
    zeros = np.zeros((1, 3))
    for loss in (KLDivergence(), Poisson(), CosineSimilarity(), MeanSquaredLogarithmicError()):
        value, gradient = loss.value_and_gradient(zeros, zeros)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    assert LogCosh()([[0.0]], [[1e30]]) == pytest.approx(1e30)
    assert MeanAbsoluteError().value_and_gradient(zeros, zeros)[1].tolist() == [[0, 0, 0]]
    value, gradient = MeanAbsolutePercentageError().value_and_gradient(zeros, zeros + 1e-7)
    assert value == pytest.approx(100)
    np.testing.assert_allclose(gradient, 1e9 / 3)
    one = np.array([[1.0, 1.0, 0.0]])  # the larger of equal rivals is the first
    _, gradient = CategoricalHinge().value_and_gradient([[0.0, 0.0, 1.0]], one)
    assert gradient.tolist() == [[1, 0, -1]]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="`delta` must be a finite number > 0"):
        Huber(0)
    with pytest.raises(ValueError, match="`axis` must be -1"):
        CosineSimilarity(axis=0)
    for loss in (MeanAbsoluteError(), KLDivergence(), CategoricalHinge()):
        with pytest.raises(ValueError, match=r"`y_true` must have the shape of `y_pred`, \(2, 3\)"):
            loss(np.ones((2, 2)), np.ones((2, 3)))
