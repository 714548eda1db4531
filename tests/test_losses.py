"""The losses: float64 formulas, gradients by finite differences, extreme logits, names."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fusednn import losses
from fusednn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

EPSILON = 1e-7


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def smoothed(t, smoothing, towards):
    return t * (1 - smoothing) + smoothing * towards


# Float64 values of each sample, written from the definitions: for logits through probabilities.


def mean_squared_error(t, y):
    return ((y - t) ** 2).mean(axis=-1)


def binary_crossentropy(t, y, from_logits=False, label_smoothing=0.0):
    t = smoothed(t, label_smoothing, 0.5)
    p = sigmoid(y) if from_logits else np.clip(y, EPSILON, 1 - EPSILON)
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=-1)


def categorical_crossentropy(t, y, from_logits=False, label_smoothing=0.0):
    t = smoothed(t, label_smoothing, 1 / y.shape[-1])
    normalised = y / y.sum(axis=-1, keepdims=True)
    q = softmax(y) if from_logits else np.clip(normalised, EPSILON, 1 - EPSILON)
    return -(t * np.log(q)).sum(axis=-1)


def sparse_categorical_crossentropy(labels, y, from_logits=False):
    labels = np.asarray(labels).reshape(y.shape[:-1]).astype(int)
    return categorical_crossentropy(np.eye(y.shape[-1])[labels], y, from_logits)


# Each case: loss, its formula with the same options, what targets and predictions are like.
CASES = {
    "mse": (MeanSquaredError(), mean_squared_error, {}, "real", "real"),
    "bce": (BinaryCrossentropy(), binary_crossentropy, {}, "fraction", "fraction"),
    "bce_logits": (
        BinaryCrossentropy(from_logits=True),
        binary_crossentropy,
        {"from_logits": True},
        "fraction",
        "real",
    ),
    "bce_smoothed": (
        BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
        binary_crossentropy,
        {"from_logits": True, "label_smoothing": 0.2},
        "fraction",
        "real",
    ),
    "cce": (CategoricalCrossentropy(), categorical_crossentropy, {}, "fraction", "fraction"),
    "cce_smoothed": (
        CategoricalCrossentropy(label_smoothing=0.3),
        categorical_crossentropy,
        {"label_smoothing": 0.3},
        "fraction",
        "fraction",
    ),
    "cce_logits": (
        CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        categorical_crossentropy,
        {"from_logits": True, "label_smoothing": 0.1},
        "fraction",
        "real",
    ),
    "sparse": (
        SparseCategoricalCrossentropy(),
        sparse_categorical_crossentropy,
        {},
        "label",
        "fraction",
    ),
    "sparse_logits": (
        SparseCategoricalCrossentropy(from_logits=True),
        sparse_categorical_crossentropy,
        {"from_logits": True},
        "label",
        "real",
    ),
}


def draw(rng, kind, shape):
    if kind == "real":
        return 3 * rng.standard_normal(shape)
    if kind == "fraction":
        return rng.uniform(0.05, 0.95, shape)
    return rng.integers(0, shape[-1], shape[:-1])


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("shape", [(1, 2), (7, 5), (97, 10), (4, 3, 6)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_values_and_gradients(rng, case, shape, dtype):
    loss, formula, options, of_targets, of_predictions = case
    t = draw(rng, of_targets, shape)
    y = draw(rng, of_predictions, shape).astype(dtype)
    exact_t = t.astype(dtype).astype(np.float64)
    exact = formula(exact_t, y.astype(np.float64), **options)
    tolerance = {"rtol": 2e-6, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-12}

    samples = loss.call(t, y)
    assert samples.shape == shape[:-1]
    assert samples.dtype == dtype
    np.testing.assert_allclose(samples, exact, **tolerance)
    np.testing.assert_allclose(loss(t, y), exact.mean(), **tolerance)

    value, grad = loss.value_and_gradient(t, y)
    assert isinstance(value, float)
    np.testing.assert_allclose(value, exact.mean(), **tolerance)
    assert grad.shape == shape
    assert grad.dtype == dtype

    wide, step = y.astype(np.float64), 1e-6
    numeric = np.empty(shape)
    for index in np.ndindex(shape):
        ends = []
        for sign in (1, -1):
            moved = wide.copy()
            moved[index] += sign * step
            ends.append(formula(exact_t, moved, **options).mean())
        numeric[index] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(grad, numeric, rtol=1e-5, atol=1e-8)


def test_sum_reduction(rng, case):
    loss, _, _, of_targets, of_predictions = case
    shape = (6, 4)
    t, y = draw(rng, of_targets, shape), draw(rng, of_predictions, shape)
    summed = type(loss).from_config(loss.get_config() | {"reduction": "sum"})
    alias = type(loss).from_config(loss.get_config() | {"reduction": "mean"})
    value, grad = loss.value_and_gradient(t, y)
    summed_value, summed_grad = summed.value_and_gradient(t, y)
    assert summed(t, y) == pytest.approx(6 * value, rel=1e-12)
    assert summed_value == pytest.approx(6 * value, rel=1e-12)
    np.testing.assert_allclose(summed_grad, 6 * grad, rtol=1e-12)
    assert alias(t, y) == value


def test_out_may_be_the_predictions(rng, case):
    loss, _, _, of_targets, of_predictions = case
    shape = (9, 4)
    t, y = draw(rng, of_targets, shape), draw(rng, of_predictions, shape)
    before = y.copy()
    value, grad = loss.value_and_gradient(t, y)
    np.testing.assert_array_equal(y, before)  # predictions are only read
    out = np.full(shape, np.nan)
    value_out, result = loss.value_and_gradient(t, y, out=out)
    assert result is out
    value_in, _ = loss.value_and_gradient(t, y, out=y)
    assert value == value_out == value_in
    np.testing.assert_array_equal(out, grad)
    np.testing.assert_array_equal(y, grad)


def test_strided_predictions(rng, case):
    loss, _, _, of_targets, of_predictions = case
    t, y = draw(rng, of_targets, (8, 5)), draw(rng, of_predictions, (8, 5))
    value, grad = loss.value_and_gradient(t, y)
    strided = np.asfortranarray(y)
    strided.flags.writeable = False
    value_strided, grad_strided = loss.value_and_gradient(t, strided)
    assert value_strided == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(grad_strided, grad, rtol=1e-14)


def test_scratch_keeps_nothing_from_batch_to_batch(rng, case):
    """A model's way: the same arrays for every batch, whatever the one before left in them."""
    loss, _, _, of_targets, of_predictions = case
    shape = (13, 4)
    scratch = losses.Scratch.of(shape, np.dtype(np.float64))
    link = loss.link == "softmax"
    for from_logits in {loss.from_logits, loss.link is not None}:
        for spoil in (True, False, False):
            t, y = draw(rng, of_targets, shape), draw(rng, of_predictions, shape)
            if spoil:
                y[::3] = np.nan  # and what is clipped, where these are probabilities
                y[1, :] = [0.0, 1.0, 0.0, 0.0]
            grad = np.full(shape, np.nan)
            with np.errstate(all="ignore"):
                value = loss.evaluate(t, y, scratch, from_logits=from_logits, grad=grad)
                only = loss.evaluate(t, y, scratch, from_logits=from_logits, grad=None)
            fresh, fresh_grad = loss.value_and_gradient(t, y, from_logits=from_logits)
            np.testing.assert_array_equal([value, only], fresh)
            np.testing.assert_array_equal(grad, fresh_grad)
            if link and from_logits:
                np.testing.assert_array_equal(scratch.best, y.argmax(axis=1))
            else:
                assert scratch.best is None


def test_targets_of_another_type_are_converted_into_scratch(rng):
    y = rng.uniform(0.1, 0.9, (6, 4)).astype(np.float32)
    onehot = np.eye(4)[rng.integers(0, 4, 6)]
    for loss in (MeanSquaredError(), BinaryCrossentropy(), CategoricalCrossentropy()):
        expected = loss.value_and_gradient(onehot.astype(np.float32), y)
        for dtype in (np.float64, np.int64, np.uint8, np.bool_, np.float16):
            value, grad = loss.value_and_gradient(onehot.astype(dtype), y)
            assert value == expected[0]
            np.testing.assert_array_equal(grad, expected[1])


def test_empty_batch(case):
    loss, _, _, of_targets, _ = case
    t = np.zeros(0, int) if of_targets == "label" else np.zeros((0, 3))
    value, grad = loss.value_and_gradient(t, np.zeros((0, 3), np.float32))
    assert value == 0.0
    assert grad.shape == (0, 3)
    assert loss(t, np.zeros((0, 3))) == 0.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_extreme_logits_are_exact(dtype):
    z = np.array([[1e4, -1e4, 0.0]], dtype)
    for label, expected in ((0, 0.0), (1, 2e4), (2, 1e4)):
        sparse = SparseCategoricalCrossentropy(from_logits=True)
        onehot = CategoricalCrossentropy(from_logits=True)
        value, grad = sparse.value_and_gradient([label], z)
        assert value == expected
        wanted = np.array([[1.0, 0, 0]]) - np.eye(3)[[label]]
        np.testing.assert_array_equal(grad, wanted)
        value, grad = onehot.value_and_gradient(np.eye(3)[[label]], z)
        assert value == expected
        np.testing.assert_array_equal(grad, wanted)
    binary = BinaryCrossentropy(from_logits=True)
    z = np.array([[1e4], [-1e4], [1e4], [-1e4]], dtype)
    value, grad = binary.value_and_gradient([1, 0, 0, 1], z)
    assert value == 5e3
    np.testing.assert_array_equal(grad[:, 0], [0, 0, 0.25, -0.25])


def test_confident_logits_keep_relative_accuracy():
    # A formula that subtracts, or that goes through 1 - p, gives 0 in float32.
    z = np.array([[20.0]], np.float32)
    value, grad = BinaryCrossentropy(from_logits=True).value_and_gradient([[1.0]], z)
    assert value == pytest.approx(np.log1p(np.exp(-20.0)), rel=1e-6)
    value, grad = BinaryCrossentropy(from_logits=True).value_and_gradient([[0.0]], -z)
    assert grad[0, 0] == pytest.approx(1 / (1 + np.exp(20.0)), rel=1e-6)


def test_probabilities_are_clipped_as_in_keras():
    zero, one = [[0.0, 1.0]], [[1.0, 0.0]]
    for loss in (CategoricalCrossentropy(), BinaryCrossentropy()):
        wrong, grad = loss.value_and_gradient(one, np.array(zero))
        assert wrong == pytest.approx(-np.log(EPSILON), rel=1e-9)
        np.testing.assert_array_equal(grad, 0.0)
        right, _ = loss.value_and_gradient(zero, np.array(zero))
        assert right == pytest.approx(EPSILON, rel=1e-6)
    wrong, grad = SparseCategoricalCrossentropy().value_and_gradient([0], np.array(zero))
    assert wrong == pytest.approx(-np.log(EPSILON), rel=1e-9)
    np.testing.assert_array_equal(grad, 0.0)


def test_from_logits_overrides_the_setting(rng):
    z = rng.standard_normal((5, 3))
    for cls in (CategoricalCrossentropy, BinaryCrossentropy):
        t = np.eye(3)[rng.integers(0, 3, 5)]
        told = cls().value_and_gradient(t, z, from_logits=True)
        made = cls(from_logits=True).value_and_gradient(t, z)
        assert told[0] == made[0]
        np.testing.assert_array_equal(told[1], made[1])
        p = softmax(z)
        told = cls(from_logits=True).value_and_gradient(t, p, from_logits=False)
        assert told[0] == cls()(t, p)
    with pytest.raises(ValueError, match="`from_logits` must be False for MeanSquaredError"):
        MeanSquaredError().value_and_gradient(z, z, from_logits=True)


def test_logits_and_probabilities_agree_through_the_activation(rng):
    """The fused gradient is that of the probabilities, carried through the activation."""
    z, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    p = softmax(z)
    value, fused = SparseCategoricalCrossentropy().value_and_gradient(labels, z, from_logits=True)
    through, grad = SparseCategoricalCrossentropy().value_and_gradient(labels, p)
    assert value == pytest.approx(through, rel=1e-12)
    carried = p * (grad - (grad * p).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(fused, carried, rtol=1e-10, atol=1e-15)
    p, t = sigmoid(z), np.eye(4)[labels]
    value, fused = BinaryCrossentropy().value_and_gradient(t, z, from_logits=True)
    through, grad = BinaryCrossentropy().value_and_gradient(t, p)
    assert value == pytest.approx(through, rel=1e-12)
    np.testing.assert_allclose(fused, grad * p * (1 - p), rtol=1e-10)


def test_links_name_the_activation_that_logits_leave_out():
    links = {cls: cls.link for cls in (MeanSquaredError, BinaryCrossentropy)}
    assert links == {MeanSquaredError: None, BinaryCrossentropy: "sigmoid"}
    assert CategoricalCrossentropy.link == SparseCategoricalCrossentropy.link == "softmax"


def test_nan_predictions_give_a_nan_loss_without_a_warning(case):
    loss, _, _, of_targets, _ = case
    t = [0, 1] if of_targets == "label" else [[0.0, 1.0], [1.0, 0.0]]
    value, _ = loss.value_and_gradient(t, np.array([[np.nan, 0.5], [0.5, 0.5]]))
    assert np.isnan(value)


def test_integer_predictions_become_float32():
    value, grad = MeanSquaredError().value_and_gradient([[1, 2]], [[3, 2]])
    assert value == 2.0
    assert grad.dtype == np.float32


# Names.


def test_functions_give_one_value_per_sample(rng):
    y, t = rng.uniform(0.1, 0.9, (5, 3)), rng.uniform(0, 1, (5, 3))
    np.testing.assert_allclose(losses.mean_squared_error(t, y), mean_squared_error(t, y))
    np.testing.assert_allclose(
        losses.binary_crossentropy(t, y, label_smoothing=0.1),
        binary_crossentropy(t, y, label_smoothing=0.1),
    )
    np.testing.assert_allclose(
        losses.categorical_crossentropy(t, y, from_logits=True),
        categorical_crossentropy(t, y, from_logits=True),
    )
    np.testing.assert_allclose(
        losses.sparse_categorical_crossentropy([0, 1, 2, 0, 1], y),
        sparse_categorical_crossentropy([0, 1, 2, 0, 1], y),
    )


@pytest.mark.parametrize(
    ("identifier", "cls"),
    [
        ("mse", MeanSquaredError),
        ("MSE", MeanSquaredError),
        ("mean_squared_error", MeanSquaredError),
        ("MeanSquaredError", MeanSquaredError),
        (losses.mean_squared_error, MeanSquaredError),
        ("bce", BinaryCrossentropy),
        ("binary_crossentropy", BinaryCrossentropy),
        ("categorical_crossentropy", CategoricalCrossentropy),
        ("SparseCategoricalCrossentropy", SparseCategoricalCrossentropy),
        (losses.sparse_categorical_crossentropy, SparseCategoricalCrossentropy),
        (CategoricalCrossentropy, CategoricalCrossentropy),
    ],
)
def test_get(identifier, cls):
    assert type(losses.get(identifier)) is cls


def test_get_keeps_an_object_and_refuses_the_rest():
    loss = MeanSquaredError()
    assert losses.get(loss) is loss
    for wrong in ("mes", None, {"class_name": "Hubert"}):
        with pytest.raises(ValueError, match="`loss` must be a loss object, class or"):
            losses.get(wrong)


def test_config_makes_an_equal_loss(case):
    loss = case[0]
    entry = json.loads(json.dumps(losses.serialize(loss)))
    again = losses.get(entry)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    sparse = {"from_logits": True, "ignore_class": None, "reduction": "sum", "name": "mine"}
    assert SparseCategoricalCrossentropy.from_config(sparse).from_logits
    assert (
        SparseCategoricalCrossentropy.from_config(sparse | {"ignore_class": 255}).ignore_class
        == 255
    )
    with pytest.raises(ValueError, match="`ignore_class` must be an integer or None"):
        SparseCategoricalCrossentropy.from_config(sparse | {"ignore_class": 2.5})


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
@pytest.mark.parametrize("logits", [False, True])
def test_an_ignored_class_leaves_the_others_as_they_are(rng, dtype, logits):
    labels = np.array([3, 255, 0, 255, 255, 2, 1]).astype(dtype)
    y = rng.uniform(0.1, 0.9, (7, 5)).astype(np.float32)
    kept = labels != 255
    plain = SparseCategoricalCrossentropy(logits)
    want, want_grad = plain.value_and_gradient(labels[kept], y[kept])
    y[1] = np.nan
    loss = SparseCategoricalCrossentropy(logits, ignore_class=255)
    value, grad = loss.value_and_gradient(labels, y)
    assert value == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(grad[kept], want_grad, rtol=1e-6)
    assert np.all(grad[~kept] == 0)
    np.testing.assert_array_equal(loss.call(labels, y)[~kept], 0)
    nothing, grad = loss.value_and_gradient(labels[~kept], y[~kept])
    assert nothing == 0
    assert np.all(grad == 0)
    with pytest.raises(ValueError, match=r"Labels must be in \[0, 5\)"):
        loss([7], y[:1])


def test_a_new_loss_is_one_method(rng):
    class MeanCubedError(Loss):
        def per_row(self, y_true, y_pred, *, from_logits, work, scale, scratch):
            np.subtract(y_pred, y_true, out=work)
            values = (np.abs(work) ** 3).mean(axis=1)
            if scale is not None:
                work *= np.abs(work) * (3 * scale / work.shape[1])
            return values

    t, y = rng.standard_normal((2, 6, 4))
    value, grad = MeanCubedError().value_and_gradient(t, y)
    assert value == pytest.approx((np.abs(y - t) ** 3).mean())
    np.testing.assert_allclose(grad, 3 * (y - t) * np.abs(y - t) / 24, rtol=1e-12)
    assert MeanCubedError().name == "mean_cubed_error"
