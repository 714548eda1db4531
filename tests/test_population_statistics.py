"""Exact statistics of a data set, folded normalisations, and the functions of Keras' backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusednn
from fusednn import backend, utils
from fusednn.data import Dataset, PyDataset
from fusednn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
    Reshape,
)
from fusednn.models import Sequential, fold_batch_norm, recalibrate_batch_norm
from fusednn.optimizers import Adam
from gradient_check import normal


def deep() -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((6,)), BatchNormalization()])
    for _ in range(3):
        for layer in (Dense(7), BatchNormalization(epsilon=1e-2), LeakyReLU(), Dropout(0.1)):
            model.add(layer)
    model.add(Dense(3, "softmax"))
    return model


class Batched(PyDataset):
    """Batches of samples without targets."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> np.ndarray:
        return X[50 * index : 50 * (index + 1)]


X = (2 + 3 * normal(230, 6)).astype(np.float32)


def expected_statistics(model: Sequential) -> list[tuple[np.ndarray, np.ndarray]]:
    """Front to back, in one piece and in float64."""
    found = []
    x = X.astype(np.float64)
    for layer in model.layers:
        weights = {v.name: v.numpy().astype(np.float64) for v in layer.weights}
        if isinstance(layer, BatchNormalization):
            mean, var = x.mean(axis=0), x.var(axis=0)
            found.append((mean, var))
            x = (x - mean) / np.sqrt(var + layer.epsilon) * weights["gamma"] + weights["beta"]
        elif isinstance(layer, Dense):
            x = x @ weights["kernel"] + weights["bias"]
        elif isinstance(layer, LeakyReLU):
            x = np.where(x > 0, x, layer.negative_slope * x)
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 97, 1000])
def test_statistics_are_those_of_the_whole_set(batch_size: int) -> None:
    model = deep()
    others = list(model.trainable_variables)
    before = [w.numpy() for w in others]
    recalibrate_batch_norm(model, X, batch_size=batch_size)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    for layer, (mean, var) in zip(norms, expected_statistics(model), strict=True):
        np.testing.assert_allclose(layer.moving_mean.value, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance.value, var, rtol=1e-4, atol=1e-6)
    for old, variable in zip(before, others, strict=True):
        np.testing.assert_array_equal(old, variable.value)
    # In inference the model now does to the whole set what training does to it as one batch.
    plain = Sequential([Input((6,)), *[x for x in model.layers if not isinstance(x, Dropout)]])
    inference = plain.predict(X, verbose=0)
    np.testing.assert_allclose(inference, plain(X, training=True), rtol=1e-3, atol=1e-4)


def test_streams_of_batches() -> None:
    whole, streamed = deep(), deep()
    streamed.set_weights(whole.get_weights())
    recalibrate_batch_norm(whole, X)
    recalibrate_batch_norm(streamed, lambda: ((X[i : i + 50], None) for i in range(0, len(X), 50)))
    for a, b in zip(whole.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_data_sets_and_other_sources_of_batches() -> None:
    expected, model = deep(), deep()
    recalibrate_batch_norm(expected, X, batch_size=50)
    data = Dataset.from_tensor_slices((X, np.zeros(len(X)))).batch(50)
    batches = [X[i : i + 50] for i in range(0, len(X), 50)]
    pairs = [(x, None) for x in batches]
    sources = (data, data.prefetch(2), Batched(), batches, pairs, iter(batches), iter(pairs))
    for source in sources:
        model.set_weights(deep().get_weights())
        recalibrate_batch_norm(model, source)
        for own, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(own, wanted)
    with pytest.raises(ValueError, match="`data` must be a Dataset of batches"):
        recalibrate_batch_norm(model, Dataset.from_tensor_slices(X))


def test_it_helps_after_a_short_training() -> None:
    model = deep()
    labels = (X[:, 0] > 2).astype(int) + (X[:, 1] > 2)
    model.compile(Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(X, labels, epochs=3, verbose=0)
    lagging = model.evaluate(X, labels, verbose=0)
    recalibrate_batch_norm(model, X)
    assert model.evaluate(X, labels, verbose=0) < 0.95 * lagging


def test_frozen_layers_keep_theirs() -> None:
    model = deep()
    model.layers[0].trainable = False
    recalibrate_batch_norm(model, X)
    np.testing.assert_array_equal(model.layers[0].moving_mean.value, 0)
    assert np.any(model.layers[2].moving_mean.value != 0)


def test_refusals() -> None:
    model = deep()
    with pytest.raises(TypeError, match="`model` must be a Sequential"):
        recalibrate_batch_norm("model", X)
    with pytest.raises(ValueError, match="`data` must hold at least one sample"):
        recalibrate_batch_norm(model, X[:0])
    with pytest.raises(ValueError, match=r"`data` must have shape \(None, 6\)"):
        recalibrate_batch_norm(model, X[:, :5])
    with pytest.raises(ValueError, match="`data` must be finite: the inputs of layer"):
        recalibrate_batch_norm(model, np.full((3, 6), np.nan))
    with pytest.raises(ValueError, match="is not known yet"):
        fold_batch_norm(Sequential([Dense(2)]))
    with pytest.raises(TypeError, match="`model` must be a Sequential"):
        fold_batch_norm(None)


def test_folding() -> None:
    model = deep()
    recalibrate_batch_norm(model, X)
    for i, variable in enumerate(model.weights):
        if variable.name in ("gamma", "beta", "bias"):
            variable.assign(variable.value + 0.3 * normal(*variable.shape, seed=i))
    before = model.get_weights()
    folded = fold_batch_norm(model)
    kinds = [type(layer).__name__ for layer in folded.layers]
    assert kinds.count("BatchNormalization") == 1  # the first has nothing before it
    assert [x.name for x in folded.layers if isinstance(x, Dense)] == [
        x.name for x in model.layers if isinstance(x, Dense)
    ]
    np.testing.assert_allclose(
        folded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_folding_of_images_and_what_cannot_be_folded() -> None:
    utils.set_random_seed(1)
    model = Sequential(
        [
            Input((6, 5, 2)),
            Conv2D(3, 3, use_bias=False),
            BatchNormalization(scale=False),
            Activation("relu"),
            Conv2D(4, 2, activation="tanh"),
            BatchNormalization(center=False),
            Conv2D(2, 1),
            BatchNormalization(axis=1),
            Flatten(),
        ]
    )
    for i, variable in enumerate(model.weights):
        variable.assign(np.abs(0.5 + 0.3 * normal(*variable.shape, seed=i)))
    folded = fold_batch_norm(model)
    # That after tanh goes into the convolution after it; that over another axis stays.
    assert [type(x).__name__ for x in folded.layers].count("BatchNormalization") == 1
    x = normal(4, 6, 5, 2)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_backend() -> None:
    model = Sequential([Input((2,)), Dense(2)])
    kernel = model.layers[0].kernel
    fusednn.backend.set_value(kernel, np.ones((2, 2)))
    value = backend.get_value(kernel)
    value[...] = 3
    np.testing.assert_array_equal(kernel.value, 1)
    assert backend.get_value(0.5) == 0.5
    with pytest.raises(TypeError, match="`x` must be a variable or an optimizer's `learning_rate`"):
        backend.set_value(0.1, 0.2)
    backend.clear_session()
    assert [Dense(1).name, Dense(1).name] == ["dense", "dense_1"]
    assert (backend.floatx(), backend.epsilon()) == ("float32", 1e-7)


@pytest.mark.parametrize(("axis", "folds"), [(1, True), (-3, True), (-1, False), (3, False)])
def test_folded_into_a_convolution_with_channels_first(axis: int, folds: bool) -> None:
    """Only what is normalised by channel; there are as many columns as channels."""
    convolution = Conv2D(4, 3, padding="same", data_format="channels_first")
    model = Sequential([Input((2, 5, 4)), convolution, BatchNormalization(axis=axis)])
    for index, variable in enumerate(model.weights):
        variable.assign(0.5 + np.abs(normal(*variable.shape, seed=index)))
    folded = fold_batch_norm(model)
    assert len(folded.layers) == (1 if folds else 2)
    x = normal(7, 2, 5, 4)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


FOLDS: dict[str, tuple[tuple[int, ...], list[Any], int]] = {
    "before_dense": ((5,), [BatchNormalization(), Dense(3, "relu", use_bias=False)], 0),
    "after_dropout": ((5,), [Dense(3), Dropout(0.5), BatchNormalization(), Dropout(0.5)], 0),
    "through_dropout": ((5,), [BatchNormalization(), Dropout(0.5), Dense(3)], 0),
    "one_of_two": ((5,), [Dense(4), BatchNormalization(), Dense(3)], 0),
    "two_in_a_row": ((5,), [Dense(4), BatchNormalization(), BatchNormalization(), Dense(3)], 0),
    "before_convolution": ((5, 4, 2), [BatchNormalization(), Conv2D(3, 2, strides=2)], 0),
    "zeros_around": ((5, 4, 2), [BatchNormalization(), Conv2D(3, 2, padding="same")], 1),
    "first": (
        (2, 5, 4),
        [BatchNormalization(axis=1), Conv2D(3, 2, data_format="channels_first")],
        0,
    ),
    "groups": ((5, 4, 2), [BatchNormalization(), Conv2D(4, 2, groups=2), BatchNormalization()], 1),
    "activation": ((5,), [BatchNormalization(), Activation("relu"), Dense(3)], 1),
    "another_axis": ((3, 4), [Dense(3), BatchNormalization(axis=1)], 1),
    "rows": ((3, 4), [BatchNormalization(), Dense(3)], 0),
    "flattened": ((3, 4), [BatchNormalization(), Flatten(), Dense(3)], 0),
    "flattened_before": ((3, 4), [Dense(3), Flatten(), BatchNormalization()], 1),
    "another_axis_flattened": ((3, 4), [BatchNormalization(axis=1), Flatten(), Dense(3)], 0),
    "another_shape": ((6,), [Dense(6), Reshape((3, 2)), BatchNormalization()], 0),
    "shared_by_pairs": ((3, 4), [BatchNormalization(), Reshape((6, 2)), Dense(3)], 1),
    "mean_of_places": (
        (5, 4, 2),
        [Conv2D(3, 2), GlobalAveragePooling2D(), BatchNormalization()],
        0,
    ),
    "mean_before_dense": ((5, 4, 2), [BatchNormalization(), GlobalAveragePooling2D(), Dense(3)], 0),
    "means": (
        (7, 5, 2),
        [Conv2D(3, 2), AveragePooling2D(3, 2, "same"), Dropout(0.5), BatchNormalization()],
        0,
    ),
    "largest": ((7, 5, 2), [Conv2D(3, 2), MaxPooling2D(2), BatchNormalization()], 0),
    "largest_before_convolution": (
        (7, 5, 2),
        [BatchNormalization(), MaxPooling2D(2), Conv2D(3, 2)],
        0,
    ),
    "largest_of_first": (
        (2, 7, 5),
        [BatchNormalization(axis=1), GlobalMaxPooling2D(data_format="channels_first"), Dense(3)],
        0,
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_what_folds_into_which_neighbour(name: str) -> None:
    shape, own, left = FOLDS[name]
    model = Sequential([Input(shape), *own])
    for i, variable in enumerate(model.weights):
        variable.assign(np.abs(0.5 + 0.3 * normal(*variable.shape, seed=i)))
    folded = fold_batch_norm(model)
    assert [type(x).__name__ for x in folded.layers].count("BatchNormalization") == left
    x = normal(7, *shape)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("largest", [MaxPooling2D(2), GlobalMaxPooling2D(keepdims=True)])
def test_a_falling_normalisation_stays_where_the_largest_is_taken(largest: Any) -> None:
    model = Sequential([Input((4, 4, 2)), Conv2D(3, 1), largest, BatchNormalization()])
    for i, variable in enumerate(model.weights):
        variable.assign(np.abs(0.5 + 0.3 * normal(*variable.shape, seed=i)))
    gamma = model.layers[-1].weights[0]
    gamma.assign(gamma.numpy() * np.array([1, -1, 1], np.float32))
    folded = fold_batch_norm(model)
    assert type(folded.layers[-1]).__name__ == "BatchNormalization"
    x = normal(7, 4, 4, 2)
    np.testing.assert_allclose(folded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)
    gamma.assign(np.abs(gamma.numpy()))
    assert len(fold_batch_norm(model).layers) == 2
