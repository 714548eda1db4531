"""Layers that are trained without labels, one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fusednn import utils
from fusednn.data import Dataset
from fusednn.layers import BatchNormalization, Dense, Flatten, Input, LeakyReLU
from fusednn.models import Sequential, pretrain_autoencoders, recalibrate_batch_norm
from fusednn.optimizers import SGD, Adam

X = (load_digits().data / 16).astype(np.float32)[:600]
Y = load_digits().target[:600]


def classifier() -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((64,))])
    for units in (40, 20):
        for layer in (Dense(units), BatchNormalization(), LeakyReLU()):
            model.add(layer)
    model.add(Dense(10, "softmax"))
    return model


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_hidden_layers_learn_and_the_output_does_not(noise: float) -> None:
    model = classifier()
    before = model.get_weights()
    histories = pretrain_autoencoders(model, X, noise=noise, epochs=8, verbose=0)
    assert len(histories) == 2
    for history in histories:
        losses = history.history["loss"]
        assert losses[-1] < 0.7 * losses[0]
    after = model.get_weights()
    assert np.any(before[0] != after[0])
    assert np.any(before[6] != after[6])
    for a, b in zip(before[12:], after[12:], strict=True):
        np.testing.assert_array_equal(a, b)
    model.compile(Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X[:100], Y[:100], epochs=30, verbose=0)
    recalibrate_batch_norm(model, X)  # moving averages lag behind so few steps
    assert model.evaluate(X[100:], Y[100:], verbose=0)[1] > 0.6  # ten labels a class


def test_frozen_layers_and_layers_before_the_first() -> None:
    model = Sequential([Input((8, 8)), Flatten(), Dense(12, "tanh"), Dense(6, "tanh"), Dense(3)])
    model.layers[1].trainable = False
    before = model.get_weights()
    pretrain_autoencoders(model, X.reshape(-1, 8, 8), epochs=1, verbose=0)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert np.any(before[2] != after[2])


def test_refusals() -> None:
    with pytest.raises(TypeError, match="`model` must be a Sequential"):
        pretrain_autoencoders("model", X)
    with pytest.raises(ValueError, match=r"hidden `Dense` layer .* Received: 1 `Dense` layers"):
        pretrain_autoencoders(Sequential([Input((64,)), Dense(3)]), X)
    with pytest.raises(TypeError, match="`optimizer` must be a name or a dictionary"):
        pretrain_autoencoders(classifier(), X, optimizer=SGD())
    with pytest.raises(ValueError, match="`noise` must be a finite number >= 0"):
        pretrain_autoencoders(classifier(), X, noise=-1.0)
    with pytest.raises(ValueError, match=r"`x` must have shape \(None, 64\)"):
        pretrain_autoencoders(classifier(), X[:, :5])


@pytest.mark.parametrize("model", [classifier, lambda: with_images()])
def test_batches_of_a_data_set_train_as_its_array_does(model: Any) -> None:
    of_array, of_batches = model(), model()
    x = X.reshape(-1, *of_array.input_shape[1:])
    data = Dataset.from_tensor_slices((x, Y)).batch(50)
    utils.set_random_seed(3)  # of the decoders
    expected = pretrain_autoencoders(of_array, x, epochs=2, batch_size=50, shuffle=False, verbose=0)
    utils.set_random_seed(3)
    histories = pretrain_autoencoders(of_batches, data, epochs=2, verbose=0)
    for a, b in zip(expected, histories, strict=True):
        np.testing.assert_allclose(a.history["loss"], b.history["loss"], rtol=1e-4)
    for a, b in zip(of_array.get_weights(), of_batches.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_a_data_set_without_end_and_a_generator() -> None:
    data = Dataset.from_tensor_slices(X).batch(50).repeat()
    histories = pretrain_autoencoders(
        classifier(), data, steps_per_epoch=3, epochs=2, tied=False, verbose=0
    )
    assert [len(history.history["loss"]) for history in histories] == [2, 2]
    with pytest.raises(ValueError, match="`x` must be data that can be read again"):
        pretrain_autoencoders(classifier(), (X[:5] for _ in range(3)), verbose=0)


def with_images() -> Sequential:
    utils.set_random_seed(2)
    return Sequential([Input((8, 8)), Flatten(), Dense(12, "tanh"), Dense(6, "tanh"), Dense(3)])
