"""What the losses accept as targets, output and options, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn.layers import Dense
from fusednn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from fusednn.models import Sequential


def test_last_axis_of_length_one_may_be_missing():
    y = np.array([[0.25], [0.5]])
    for loss in (MeanSquaredError(), BinaryCrossentropy()):
        assert loss([0, 1], y) == loss([[0], [1]], y)
        assert loss([[0], [1]], y[:, 0]) == loss([0, 1], y[:, 0])


@pytest.mark.parametrize("labels", [[0, 2], [[0], [2]], [0.0, 2.0]], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float32])
def test_label_formats(labels, dtype):
    y = np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    value = SparseCategoricalCrossentropy()(np.array(labels, dtype), y)
    assert value == pytest.approx(-(np.log(0.2) + np.log(0.8)) / 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], r"Labels must be in \[0, 3\) .* Received: y_true=3 in row 1"),
        ([-1, 0], r"Labels must be in \[0, 3\) .* Received: y_true=-1 in row 0"),
        ([0, np.nan], r"Labels must be in \[0, 3\) .* Received: y_true=nan in row 1"),
        ([0, 1.5], r"Labels must be whole numbers. Received: y_true=1.5 in row 1"),
        ([0, 1, 2], r"one integer label per sample, shape \(2,\). Received: .* \(3,\)"),
        (np.eye(3)[:2], r"One-hot labels need `CategoricalCrossentropy`. Received: .* \(2, 3\)"),
    ],
)
def test_bad_labels(labels, message):
    y = np.full((2, 3), 1 / 3)
    out = y.copy()
    for from_logits in (False, True):
        loss = SparseCategoricalCrossentropy(from_logits)
        with pytest.raises(ValueError, match=message):
            loss(labels, y)
        with pytest.raises(ValueError, match=message):
            loss.value_and_gradient(labels, y, out=out)
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float32", "float64"])
def test_negative_labels_of_short_types(dtype):
    y = np.full((2, 300), 1 / 300, np.float32)  # more classes than an int8 has numbers
    with pytest.raises(ValueError, match=r"Labels must be in \[0, 300\) .* in row 1"):
        SparseCategoricalCrossentropy()(np.array([5, -1], dtype), y)
    assert SparseCategoricalCrossentropy()(np.array([5, 127], dtype), y) > 0


def test_labels_too_large_for_a_signed_integer():
    with pytest.raises(ValueError, match=r"Labels must be in \[0, 3\) .*=18446744073709551615"):
        SparseCategoricalCrossentropy()(np.array([2**64 - 1], np.uint64), np.ones((1, 3)))


def test_bad_targets():
    y = np.full((2, 3), 1 / 3)
    with pytest.raises(TypeError, match=r"`y_true` must hold whole numbers. Received: .* <U1"):
        SparseCategoricalCrossentropy()(["a", "b"], y)
    with pytest.raises(ValueError, match=r"Integer labels need `SparseCategoricalCrossentropy`"):
        CategoricalCrossentropy()([0, 1], y)
    with pytest.raises(ValueError, match=r"must be one-hot, .* \(2, 3\). Received: .* \(2, 2\)"):
        CategoricalCrossentropy()(np.eye(2), y)
    with pytest.raises(ValueError, match=r"shape of `y_pred`, \(2, 3\). Received: .* \(2, 1\)"):
        MeanSquaredError()([[1], [2]], y)
    for label in (2, -1, np.nan):
        with pytest.raises(ValueError, match=rf"in \[0, 1\]. Received: y_true={label} in row 1"):
            BinaryCrossentropy()([0, label], [[0.5], [0.5]])
    with pytest.raises(TypeError, match=r"`y_true` must hold real numbers. Received: .* <U1"):
        MeanSquaredError()([["a", "b", "c"]] * 2, y)
    with pytest.raises(ValueError, match=r"`y_pred` must have at least one class"):
        CategoricalCrossentropy()(np.ones((2, 0)), np.ones((2, 0)))
    with pytest.raises(ValueError, match=r"`y_pred` must have at least one axis"):
        MeanSquaredError()(1.0, 2.0)


def test_bad_out():
    t, y = np.zeros((4, 3)), np.zeros((4, 3))
    loss = MeanSquaredError()
    with pytest.raises(ValueError, match=r"`out` must have the shape \(4, 3\) and the dtype"):
        loss.value_and_gradient(t, y, out=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"dtype float64 of `y_pred`. Received: .* float32"):
        loss.value_and_gradient(t, y, out=np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match=r"`out` must be C-contiguous and writeable"):
        loss.value_and_gradient(t, y, out=np.zeros((3, 4)).T)
    memory = np.zeros(15)
    with pytest.raises(ValueError, match=r"or lie apart from it and from `y_true`"):
        loss.value_and_gradient(t, memory[:12].reshape(4, 3), out=memory[3:].reshape(4, 3))
    with pytest.raises(ValueError, match=r"or lie apart from it and from `y_true`"):
        loss.value_and_gradient(t, y, out=t)


def test_bad_options():
    with pytest.raises(ValueError, match=r"`reduction` must be .* Received: reduction='mode'"):
        MeanSquaredError(reduction="mode")
    with pytest.raises(ValueError, match=r"`dtype` must be .* Received: dtype='int8'"):
        MeanSquaredError(dtype="int8")
    for cls in (BinaryCrossentropy, CategoricalCrossentropy):
        with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\]"):
            cls(label_smoothing=1.5)
        with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\]"):
            cls(label_smoothing=float("nan"))
        with pytest.raises(ValueError, match=r"`axis` must be -1"):
            cls(axis=1)


@pytest.mark.parametrize("reduction", ["none", None])
def test_losses_of_all_samples(reduction):
    t, p = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]), np.array([[1.0, 1.0], [1, 3], [0, 0]])
    loss = MeanSquaredError(reduction)
    np.testing.assert_array_equal(loss(t, p), [0.5, 2, 2])
    np.testing.assert_array_equal(loss(t, p, sample_weight=[2, 1, 0]), [1, 2, 0])
    assert MeanSquaredError.from_config(loss.get_config()).reduction == reduction
    with pytest.raises(ValueError, match=r"`reduction` of the loss 'mean_squared_error' must not"):
        loss.value_and_gradient(t, p)
    model = Sequential([Dense(2, input_dim=2)])
    with pytest.raises(ValueError, match=r"must not be 'none' in a model"):
        model.compile(loss=loss)
    assert not model.compiled


def test_dtypes_of_calls():
    t, p = np.array([[0.1]]), np.array([[0.3]])
    assert MeanSquaredError(dtype="float64")(t.astype("f4"), p) == pytest.approx(0.04, rel=1e-6)
    assert MeanSquaredError(dtype="float32").call(t, p).dtype == np.float32
    assert MeanSquaredError().call(t, p).dtype == np.float64
    _, gradient = MeanSquaredError(dtype="float32").value_and_gradient(t, p)
    assert gradient.dtype == np.float32


def test_arguments_by_position():
    assert MeanSquaredError("sum", "mine").get_config() == {"name": "mine", "reduction": "sum"}
    assert Loss("mine", "sum").get_config() == {"name": "mine", "reduction": "sum"}
