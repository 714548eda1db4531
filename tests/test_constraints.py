"""Constraints: formulas, after each step of an optimizer, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusednn import constraints
from fusednn.constraints import Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from fusednn.layers import BatchNormalization, Dense, Input, PReLU
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam
from fusednn.variable import Variable
from gradient_check import normal


def norms(w: np.ndarray, axis: Any) -> np.ndarray:
    return np.sqrt((w**2).sum(axis=axis, keepdims=True))


CASES: dict[str, tuple[Constraint, Any]] = {
    "non_neg": (NonNeg(), lambda w: np.maximum(w, 0)),
    "max_norm": (MaxNorm(1.5), lambda w: w * np.minimum(norms(w, 0), 1.5) / norms(w, 0)),
    "max_norm_1": (MaxNorm(1, axis=1), lambda w: w * np.minimum(norms(w, 1), 1) / norms(w, 1)),
    "unit_norm": (UnitNorm(), lambda w: w / norms(w, 0)),
    "unit_norm_all": (UnitNorm(axis=[0, 1]), lambda w: w / norms(w, (0, 1))),
    "min_max_norm": (
        MinMaxNorm(1.0, 2.0, rate=0.25),
        lambda w: w * (0.75 + 0.25 * np.clip(norms(w, 0), 1, 2) / norms(w, 0)),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (97, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formula(name: str, shape: tuple[int, int], dtype: str) -> None:
    constraint, formula = CASES[name]
    w = normal(*shape).astype(dtype)
    before = w.copy()
    result = constraint(w)
    assert result.dtype == dtype
    np.testing.assert_array_equal(w, before)
    # Keras adds 1e-7 to norms.
    np.testing.assert_allclose(result, formula(w.astype(np.float64)), rtol=1e-5)
    constraint.apply(w, np.full_like(w, np.nan))
    np.testing.assert_array_equal(w, result)


def test_zeros_stay() -> None:
    for constraint, _ in CASES.values():
        np.testing.assert_array_equal(constraint(np.zeros((3, 2))), np.zeros((3, 2)))


def test_models_keep_to_their_constraints() -> None:
    model = Sequential(
        [
            Input((6,)),
            Dense(5, kernel_constraint=MaxNorm(0.5), bias_constraint="non_neg"),
            PReLU("ones", alpha_constraint="non_neg"),
            BatchNormalization(gamma_constraint=NonNeg(), beta_constraint=UnitNorm()),
            Dense(2, kernel_constraint="unit_norm"),
        ]
    )
    model.compile(Adam(0.1), "mse")
    model.fit(normal(64, 6), normal(64, 2, seed=1), epochs=3, verbose=0)
    kernel, bias, alpha, gamma, beta, _, _, last, _ = model.get_weights()
    lengths = norms(kernel, 0)
    assert lengths.max() <= 0.5
    assert lengths.max() == pytest.approx(0.5, rel=1e-5)
    for weights in (bias, alpha, gamma):
        assert weights.min() >= 0
    assert bias.min() == 0
    np.testing.assert_allclose(norms(beta, 0), 1, rtol=1e-5)
    np.testing.assert_allclose(norms(last, 0), 1, rtol=1e-5)


def test_only_variables_that_were_updated_are_constrained() -> None:
    first, second = (
        Variable(np.full(3, -1.0), name=name, constraint=NonNeg()) for name in ("a", "b")
    )
    optimizer = SGD(0.0)
    optimizer.build([first, second])
    with pytest.warns(UserWarning, match="No gradient was given for b"):
        optimizer.apply([np.zeros(3), None], [first, second])
    assert (first.value[0], second.value[0]) == (0, -1)


def test_a_constraint_of_the_user() -> None:
    class Rounded(Constraint):
        def __call__(self, w: Any) -> np.ndarray:
            return np.round(np.asarray(w), 1)

    model = Sequential([Input((4,)), Dense(3, kernel_constraint=Rounded())])
    model.compile(SGD(0.3), "mse")
    model.train_on_batch(normal(8, 4), normal(8, 3, seed=1))
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(kernel, np.round(kernel, 1), atol=1e-7)
    with pytest.raises(NotImplementedError, match="must define `__call__` or `apply`"):
        Constraint()([1.0])


def test_get_and_configuration() -> None:
    assert constraints.get(None) is None
    assert constraints.serialize(None) is None
    assert constraints.get("max_norm").max_value == 2
    assert constraints.get("NonNeg").get_config() == {}
    for made, _ in CASES.values():
        again = constraints.deserialize(constraints.serialize(made))
        assert type(again) is type(made)
        assert again.get_config() == made.get_config()
    dense = Dense(2, kernel_constraint=MaxNorm(3, axis=1))
    assert Dense.from_config(dense.get_config()).kernel_constraint.get_config() == {
        "axis": 1,
        "max_value": 3,
    }


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"`max_value` must be a finite number >= 0.*-1"):
        MaxNorm(-1)
    with pytest.raises(ValueError, match=r"`max_value` must be a finite number >= 2"):
        MinMaxNorm(2.0, 1.0)
    with pytest.raises(ValueError, match=r"`rate` must be in \[0, 1\]"):
        MinMaxNorm(rate=1.5)
    with pytest.raises(ValueError, match="`constraint` must be a constraint object"):
        constraints.get(3)
