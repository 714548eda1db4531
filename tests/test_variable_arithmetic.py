"""Variables in expressions, as Keras' are."""

from __future__ import annotations

import copy
import operator
import pickle

import numpy as np
import pytest

from fusednn import Variable
from gradient_check import normal

BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "le", "gt", "ge"]
VALUES = np.abs(normal(3, 4)).astype(np.float32) + 0.5


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators(name: str) -> None:
    operate = getattr(operator, name)
    variable = Variable(VALUES)
    others = (2, 2.5, VALUES[0], Variable(VALUES[::-1]))
    for other in others:
        array = np.asarray(other) if isinstance(other, Variable) else other
        for got, want in (
            (operate(variable, other), operate(VALUES, array)),
            (operate(other, variable), operate(array, VALUES)),
        ):
            assert type(got) is np.ndarray
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(variable, VALUES)


def test_products_and_unary_operators() -> None:
    variable = Variable(-VALUES)
    np.testing.assert_array_equal(variable @ VALUES.T, -VALUES @ VALUES.T)
    np.testing.assert_array_equal(VALUES.T @ variable, VALUES.T @ -VALUES)
    np.testing.assert_array_equal(variable @ Variable(VALUES.T), -VALUES @ VALUES.T)
    np.testing.assert_array_equal(-variable, VALUES)
    np.testing.assert_array_equal(abs(variable), VALUES)
    np.testing.assert_array_equal(round(variable, 1), (-VALUES).round(1))
    np.testing.assert_array_equal(round(variable), (-VALUES).round())
    assert variable.ndim == 2
    scalar = Variable(3.0)
    assert scalar + 1 == 4
    assert scalar.ndim == 0


def test_results_are_arrays_of_their_own() -> None:
    variable = Variable(VALUES)
    for result in (variable[0], variable[1:, ::2], variable[VALUES > 1], +variable, variable[...]):
        assert not np.shares_memory(result, variable.value)
    np.testing.assert_array_equal(variable[1:, ::2], VALUES[1:, ::2])
    assert variable[1, 2] == VALUES[1, 2]
    with pytest.raises(IndexError):
        variable[3]
    with pytest.raises(TypeError, match="does not support item assignment"):
        variable[0] = 1  # type: ignore[index]
    kept = variable
    variable += 1  # type: ignore[assignment]
    assert type(variable) is np.ndarray
    np.testing.assert_array_equal(kept, VALUES)


def test_variables_are_equal_where_they_are_the_same() -> None:
    first, second = Variable(VALUES), Variable(VALUES)
    assert first != second
    assert [second, first].index(first) == 1
    assert len({first, second}) == 2
    assert bool(Variable(0.0))
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.deepcopy(again), VALUES)
