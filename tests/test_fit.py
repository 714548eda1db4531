"""compile, fit, evaluate, predict: what they compute, on which samples, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest

from fusednn import utils
from fusednn.callbacks import LambdaCallback
from fusednn.layers import Activation, BatchNormalization, Dense, Dropout, Input, LeakyReLU
from fusednn.losses import SparseCategoricalCrossentropy
from fusednn.metrics import MeanSquaredError
from fusednn.models import Sequential
from fusednn.models.data import Batches
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype("float32")
LABELS = RNG.integers(0, 3, 50)
Y = RNG.standard_normal((50, 2)).astype("float32")


def classifier(*, optimizer: Any = "adam", metrics: Any = ("accuracy",)) -> Sequential:
    model = Sequential([Input((6,)), Dense(8), BatchNormalization(), LeakyReLU(), Dropout(0.2)])
    model.add(Dense(3, activation="softmax"))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=metrics)
    return model


def regressor(learning_rate: float = 0.0) -> Sequential:
    model = Sequential([Input((6,)), Dense(2)])
    model.compile(SGD(learning_rate), "mse", metrics=["mse"])
    return model


# ---- what is computed


def test_loss_of_an_epoch_is_the_mean_over_samples() -> None:
    model = regressor()
    kernel, bias = model.get_weights()
    expected = float(np.mean((X.astype("float64") @ kernel + bias - Y) ** 2))
    history = model.fit(X, Y, batch_size=32, verbose=0)
    assert history.history["loss"] == pytest.approx([expected], rel=1e-6)
    assert history.history["mse"] == pytest.approx([expected], rel=1e-6)
    assert model.evaluate(X, Y, batch_size=7) == pytest.approx([expected] * 2, rel=1e-6)


def test_one_step_of_gradient_descent() -> None:
    model = regressor(0.25)
    kernel, bias = model.get_weights()
    grad = 2 * (X @ kernel + bias - Y) / Y.size
    model.fit(X, Y, batch_size=50, verbose=0)
    np.testing.assert_allclose(model.weights[0], kernel - 0.25 * X.T @ grad, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.weights[1], bias - 0.25 * grad.sum(0), rtol=1e-5, atol=1e-7)


def test_evaluate_predict_and_the_batch_methods_agree() -> None:
    model = classifier()
    model.fit(X, LABELS, epochs=2, verbose=0)
    probabilities = model.predict(X, batch_size=16)
    assert probabilities.shape == (50, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch(X), probabilities, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model(X), probabilities, rtol=1e-5, atol=1e-7)
    loss = -np.log(probabilities[np.arange(50), LABELS].astype("float64")).mean()
    accuracy = (probabilities.argmax(axis=1) == LABELS).mean()
    expected = pytest.approx([loss, accuracy], rel=1e-5)
    assert model.evaluate(X, LABELS) == expected
    assert model.evaluate(X, LABELS, batch_size=50, return_dict=True) == {
        "loss": pytest.approx(loss, rel=1e-5),
        "accuracy": pytest.approx(accuracy),
    }
    assert model.test_on_batch(X, LABELS) == expected
    assert model.metrics_names == ["loss", "accuracy"]


def test_train_on_batch_is_a_step_of_fit() -> None:
    def trained(train: Callable[[Sequential], Any]) -> list[np.ndarray]:
        utils.set_random_seed(4)
        model = classifier()
        train(model)
        return model.get_weights()

    once = trained(lambda m: m.fit(X, LABELS, batch_size=50, epochs=2, shuffle=False, verbose=0))
    twice = trained(lambda m: [m.train_on_batch(X, LABELS) for _ in range(2)])
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_train_on_batch_returns_the_numbers_of_this_batch() -> None:
    model = regressor()
    first = model.train_on_batch(X, Y)
    model.train_on_batch(X, Y + 100)
    assert model.train_on_batch(X, Y) == first
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss", "mse"}


def test_a_single_number_without_metrics() -> None:
    model = classifier(metrics=None)
    for value in (
        model.train_on_batch(X, LABELS),
        model.test_on_batch(X, LABELS),
        model.evaluate(X, LABELS),
    ):
        assert isinstance(value, float)
    assert classifier(metrics=["loss"]).evaluate(X, LABELS, return_dict=True).keys() == {"loss"}


@pytest.mark.parametrize("last", ["layer", "argument", "logits"])
def test_softmax_and_cross_entropy_are_one(last: str) -> None:
    """Probabilities underflow at logits of 1000; the loss computed from logits does not."""
    model = Sequential([Input((2,)), Dense(2, kernel_initializer="ones", name="d")])
    if last == "argument":
        model = Sequential([Input((2,)), Dense(2, activation="softmax")])
    elif last == "layer":
        model.add(Activation("softmax"))
    loss = SparseCategoricalCrossentropy(from_logits=last == "logits")
    model.compile(SGD(1e-3), loss, metrics=["accuracy", "sparse_categorical_accuracy"])
    model.set_weights([np.array([[1000, 0], [0, 1000]]), np.zeros(2)])
    results = model.evaluate(np.eye(2), [1, 1], return_dict=True)
    assert results["loss"] == pytest.approx(500)
    assert results["accuracy"] == results["sparse_categorical_accuracy"] == 0.5
    model.train_on_batch(np.eye(2), [1, 1])
    expected = np.array([[1000 - 5e-4, 5e-4], [0, 1000]])
    np.testing.assert_allclose(model.weights[0], expected, rtol=1e-6)
    probabilities = [[1, 0], [0, 1]] if last != "logits" else np.array(expected)
    np.testing.assert_allclose(model.predict(np.eye(2)), probabilities, atol=1e-2)


def test_sigmoid_and_binary_cross_entropy_are_one() -> None:
    model = Sequential([Input((1,)), Dense(1, activation="sigmoid")])
    model.compile(SGD(0.0), "binary_crossentropy", metrics=["acc", "mse"])
    model.set_weights([[[1000.0]], [0.0]])
    results = model.evaluate([1.0, -1.0], [0, 0], return_dict=True)
    assert results == {"loss": pytest.approx(500), "acc": 0.5, "mse": pytest.approx(0.5)}


def test_from_logits_of_the_loss_is_obeyed() -> None:
    """The user says that the softmax's output is logits: so it is not left to the loss."""
    model = Sequential([Input((6,)), Dense(3, activation="softmax")])
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=True))
    outputs = model.predict(X).astype("float64")
    log_sums = np.log(np.exp(outputs).sum(axis=1))
    expected = (log_sums - outputs[np.arange(50), LABELS]).mean()
    assert model.evaluate(X, LABELS) == pytest.approx(expected, rel=1e-5)


def test_one_hot_and_integer_labels() -> None:
    utils.set_random_seed(0)
    a = classifier()
    b = Sequential(a.layers)
    b.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    one_hot = utils.to_categorical(LABELS, 3)
    assert a.evaluate(X, LABELS) == pytest.approx(b.evaluate(X, one_hot), rel=1e-6)
    assert a.evaluate(X, LABELS[:, None].tolist()) == a.evaluate(X, LABELS)


def test_names_of_metrics() -> None:
    model = classifier(metrics=["acc", MeanSquaredError(name="square")])
    assert model.metrics_names == ["loss", "acc", "square"]
    model.compile("sgd", "mse", metrics=["mse", "mae", "mse"], weighted_metrics=["mse", "mae"])
    names = ["loss", "mse", "mae", "mse_1", "weighted_mse", "weighted_mae"]  # as in Keras
    assert model.metrics_names == names
    one_hot = utils.to_categorical(LABELS, 3)
    model.compile("sgd", "categorical_crossentropy", metrics=["acc", "mse"])
    assert list(model.fit(X, one_hot, verbose=0).history) == ["loss", "acc", "mse"]


def test_averaged_weights_are_set_at_the_end_of_fit() -> None:
    model = regressor()
    optimizer = SGD(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=25, epochs=3, verbose=0)
    assert optimizer.averages is not None
    for variable, average in zip(model.weights, optimizer.averages, strict=True):
        np.testing.assert_array_equal(variable, average)


# ---- which samples, in which order


def rows_seen(**options: Any) -> list[list[int]]:
    """Sample numbers of each batch of a fit on 10 samples, batch size 4."""
    seen: list[list[int]] = []
    x = np.arange(10, dtype="float32")[:, None]

    class Spy(Sequential):
        def _train_step(self, x: np.ndarray, y: np.ndarray) -> float:
            np.testing.assert_array_equal(x[:, 0], y[:, 0])
            seen.append([int(value) for value in y[:, 0]])
            return super()._train_step(x, y)

    model = Spy([Input((1,)), Dense(1)])
    model.compile(SGD(0.0), "mse")
    model.fit(x, x, batch_size=4, verbose=0, **options)
    return seen


def test_batches_in_order() -> None:
    assert rows_seen(shuffle=False) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_shuffled_batches() -> None:
    utils.set_random_seed(0)
    batches = rows_seen(epochs=2)
    first, second = list(chain(*batches[:3])), list(chain(*batches[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first != list(range(10))
    utils.set_random_seed(0)
    assert rows_seen(epochs=2) == batches


def test_validation_split_is_the_end_before_shuffling() -> None:
    utils.set_random_seed(0)
    rows = list(chain(*rows_seen(validation_split=0.25, epochs=3)))
    assert set(rows) == set(range(7))  # floor(10 * 0.75)
    model = regressor()
    split = model.fit(X, Y, validation_split=0.3, verbose=0).history
    assert split["val_loss"] == pytest.approx([model.evaluate(X[35:], Y[35:])[0]])
    data = model.fit(X[:35], Y[:35], validation_data=(X[35:], Y[35:]), verbose=0).history
    assert data["val_loss"] == split["val_loss"]
    assert data["loss"] == pytest.approx(split["loss"])


def test_initial_epoch_and_steps_per_epoch() -> None:
    assert len(rows_seen(epochs=5, initial_epoch=3)) == 2 * 3
    assert rows_seen(epochs=0) == []
    # An epoch goes on where the one before stopped; the next one starts over at the data's end.
    with pytest.warns(UserWarning, match="Your input ran out of data"):
        batches = rows_seen(epochs=3, steps_per_epoch=2, shuffle=False)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3], [4, 5, 6, 7]]
    batches = rows_seen(epochs=2, steps_per_epoch=3, shuffle=False)
    assert batches == 2 * [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batches_are_views_or_reused_buffers() -> None:
    x, y = np.arange(10.0)[:, None], np.arange(10)
    for part, _ in Batches(x, y, 4, shuffle=False):
        assert np.shares_memory(part, x)
    memory = {part.ctypes.data for part, _ in Batches(x, y, 4, shuffle=True)}
    assert len(memory) == 1
    assert len(Batches(x, y, 4, shuffle=True)) == 3


# ---- repeatability


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_same_seed_same_bits(optimizer: str) -> None:
    def run(seed: int) -> tuple[list[np.ndarray], dict[str, list[float]]]:
        utils.set_random_seed(seed)
        model = classifier(optimizer=optimizer)
        history = model.fit(X, LABELS, epochs=3, validation_split=0.2, verbose=0)
        return model.get_weights(), history.history

    weights, history = run(7)
    again, history_again = run(7)
    assert history == history_again
    for a, b in zip(weights, again, strict=True):
        assert a.tobytes() == b.tobytes()
    other, _ = run(8)
    assert weights[0].tobytes() != other[0].tobytes()


def test_set_random_seed_seeds_users_draws_too() -> None:
    import random

    def draws() -> tuple[float, float, float]:
        utils.set_random_seed(3)
        return random.random(), np.random.rand(), utils.random_generator().random()  # noqa: NPY002

    assert draws() == draws()
    with pytest.raises(
        ValueError, match=r"`seed` must be in \[0, 2\*\*32 - 1\]\. Received: seed=-1"
    ):
        utils.set_random_seed(-1)
    with pytest.raises(TypeError, match=r"`seed` must be an integer\. Received: seed=1\.5"):
        utils.set_random_seed(1.5)  # type: ignore[arg-type]


def test_to_categorical() -> None:
    assert utils.to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert utils.to_categorical([[1], [0]], 2).tolist() == [[0, 1], [1, 0]]
    assert utils.to_categorical([[0, 1], [1, 0]]).shape == (2, 2, 2)
    assert utils.to_categorical([0.0], 2).dtype == np.float32
    with pytest.raises(ValueError, match=r"labels in \[0, 2\)\. Received: 5 at position 1"):
        utils.to_categorical([0, 5], 2)
    with pytest.raises(TypeError, match="`x` must hold whole numbers"):
        utils.to_categorical([0.5])
    with pytest.raises(ValueError, match="`num_classes` must be given"):
        utils.to_categorical([])


# ---- errors


def test_loss_that_is_not_finite_names_epoch_and_batch() -> None:
    x = X.copy()
    x[45, 2] = np.inf
    model = classifier()
    model.fit(X, LABELS, verbose=0)
    kept: list[list[np.ndarray]] = []
    watch = LambdaCallback(
        on_train_batch_begin=lambda batch, logs: kept.append(model.get_weights())
    )
    with pytest.raises(FloatingPointError, match=r"loss is nan in epoch 2/3, batch 5/5"):
        model.fit(
            x,
            LABELS,
            batch_size=10,
            epochs=3,
            initial_epoch=1,
            shuffle=False,
            verbose=0,
            callbacks=[watch],
        )
    for variable, before in zip(model.weights, kept[-1], strict=True):
        if variable.trainable:
            np.testing.assert_array_equal(variable, before)


def test_divergence_is_noticed() -> None:
    model = regressor(1e20)
    with (
        np.errstate(all="ignore"),
        pytest.raises(FloatingPointError, match="smaller learning rate"),
    ):
        model.fit(X, Y, epochs=20, verbose=0)


def test_train_on_batch_returns_a_loss_that_is_not_finite() -> None:
    model = regressor(0.1)
    before = model.get_weights()
    assert np.isnan(model.train_on_batch(np.full_like(X, np.nan), Y)[0])
    np.testing.assert_array_equal(model.weights[0], before[0])


BAD_FIT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"batch_size": 0}, ValueError, r"`batch_size` must be at least 1\. Received: batch_size=0"),
    (
        {"batch_size": 2.5},
        TypeError,
        r"`batch_size` must be an integer\. Received: batch_size=2\.5",
    ),
    ({"epochs": -1}, ValueError, r"`epochs` must be at least 0"),
    ({"initial_epoch": -1}, ValueError, r"`initial_epoch` must be at least 0"),
    ({"steps_per_epoch": 0}, ValueError, r"`steps_per_epoch` must be at least 1"),
    ({"validation_split": 1.0}, ValueError, r"`validation_split` must be in \(0, 1\).*=1\.0"),
    ({"validation_split": 0.999}, ValueError, r"must leave samples on both sides.*50 samples"),
    ({"validation_data": X}, ValueError, r"`validation_data` must be a pair \(x, y\)"),
    ({"validation_data": (X[:, :2], Y)}, ValueError, r"`validation_x` must have shape \(None, 6\)"),
    ({"validation_data": (X, Y[:9])}, ValueError, r"`validation_y` must hold as many samples"),
    ({"verbose": 3}, ValueError, r"`verbose` must be 'auto', 0, 1 or 2\. Received: verbose=3"),
    ({"callbacks": [3]}, TypeError, "`callbacks` must hold Callback objects"),
    ({"y": Y[:9]}, ValueError, r"`y` must hold as many samples as `x`, 50\. Received: 9 samples"),
    ({"y": 1.0}, ValueError, r"`y` must hold as many samples.*a single number"),
    ({"y": np.array(["a"] * 50)}, TypeError, "`y` must be an array of real numbers"),
    ({"y": LABELS}, ValueError, "`y_true` must have the shape"),
    ({"x": X[:0], "y": Y[:0]}, ValueError, "at least one sample"),
]


@pytest.mark.parametrize(
    ("options", "error", "message"), BAD_FIT, ids=[m[:40] for *_, m in BAD_FIT]
)
def test_bad_arguments_of_fit(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = regressor(0.5)
    before = model.get_weights()
    with pytest.raises(error, match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0} | options)
    np.testing.assert_array_equal(model.weights[0], before[0])


def test_labels_out_of_range() -> None:
    labels = LABELS.copy()
    labels[3] = 5
    with pytest.raises(ValueError, match=r"\[0, 3\).*y_true=5 in row 3"):
        classifier().fit(X, labels, shuffle=False, verbose=0)


def test_bad_arguments_of_compile() -> None:
    model = Sequential([Input((6,)), Dense(2)])
    with pytest.raises(ValueError, match="must be compiled first"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match="must be compiled first"):
        model.evaluate(X, Y)
    with pytest.raises(ValueError, match=r"`loss` must be a loss.*Received: loss=None"):
        model.compile("sgd")
    with pytest.raises(ValueError, match=r"loss.*nothing"):
        model.compile("sgd", "nothing")
    with pytest.raises(ValueError, match=r"optimizer.*nothing"):
        model.compile("nothing", "mse")
    with pytest.raises(TypeError, match=r"`metrics` must be a list\. Received: metrics='accuracy'"):
        model.compile("sgd", "mse", metrics="accuracy")
    with pytest.raises(ValueError, match=r"`metrics` must have other names than 'loss'.*'loss'"):
        model.compile("sgd", "mse", metrics=[MeanSquaredError("loss")])
    assert not model.compiled


def test_an_optimizer_does_not_follow_a_new_set_of_weights() -> None:
    model = Sequential([Input((6,)), Dense(4), Dense(2)])
    model.layers[0].trainable = False
    optimizer = Adam()
    model.compile(optimizer, "mse")
    model.train_on_batch(X, Y)
    model.layers[0].trainable = True
    model.compile(optimizer, "mse")
    with pytest.raises(ValueError, match="only updates the variables that it was built with"):
        model.train_on_batch(X, Y)
    model.compile(Adam(), "mse")
    model.train_on_batch(X, Y)


@pytest.mark.parametrize("wrong", ["data", "labels"])
def test_a_step_that_fails_leaves_the_moving_statistics(wrong):
    """All weights, those of BatchNormalization included, are those before the batch."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((32, 4)).astype(np.float32)
    y = rng.integers(0, 3, 32)
    model = Sequential([Input((4,)), Dense(8), BatchNormalization(), LeakyReLU()])
    model.add(Dense(3, activation="softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    if wrong == "data":
        x[3] = np.nan
        with pytest.raises(FloatingPointError, match="epoch 1/1, batch 1/1"):
            model.fit(x, y, verbose=0)
    else:
        with pytest.raises(ValueError, match="3"):
            model.train_on_batch(x, y + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
