"""Layers of one model in another: shared, cloned, frozen, thawed, and at rates of their own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fusednn import utils
from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
from fusednn.models import Sequential, clone_model
from fusednn.optimizers import SGD, Adam

DIGITS = load_digits()
X = (DIGITS.data / 16).astype(np.float32)
Y = DIGITS.target
SMALL, LARGE = Y < 5, Y >= 5  # task A has many labels, task B, other digits, few
FEW = np.flatnonzero(LARGE)[:100]


def model_a() -> Sequential:
    """A network that tells the digits from 0 to 4 apart."""
    utils.set_random_seed(7)
    model = Sequential([Input((64,))])
    for units in (60, 40):
        model.add(Dense(units, use_bias=False, kernel_initializer="he_normal"))
        model.add(BatchNormalization(momentum=0.9))
        model.add(LeakyReLU(0.01))
    model.add(Dense(5, activation="softmax"))
    model.compile(Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X[SMALL], Y[SMALL], epochs=5, verbose=0)
    return model


def on_top_of(model: Sequential) -> Sequential:
    """All layers but the last, and a new one that tells whether a digit is larger than 7."""
    made = Sequential([Input((64,)), *model.layers[:-1]])
    made.add(Dense(1, activation="sigmoid"))
    return made


def fit_b(model: Sequential, epochs: int = 4) -> float:
    losses = model.fit(X[FEW], Y[FEW] > 7, epochs=epochs, batch_size=16, verbose=0)
    return losses.history["loss"][-1]


@pytest.fixture(scope="module")
def trained_a() -> Sequential:
    return model_a()


def same(a: list[np.ndarray], b: list[np.ndarray]) -> list[bool]:
    return [bool(np.array_equal(x, y)) for x, y in zip(a, b, strict=True)]


def test_a_changes_where_its_layers_are_shared() -> None:
    a = model_a()
    before, outputs = a.get_weights(), a.predict(X[:97], verbose=0)
    b = on_top_of(a)
    assert all(mine is its for mine, its in zip(b.layers[:-1], a.layers[:-1], strict=True))
    b.compile(SGD(0.05), "binary_crossentropy")
    fit_b(b)
    # All that B trains, moving statistics too; only A's own last layer is as it was.
    assert same(a.get_weights(), before) == [False] * 10 + [True] * 2
    assert np.abs(a.predict(X[:97], verbose=0) - outputs).max() > 1e-3


def test_a_is_unchanged_where_it_was_cloned_first(trained_a: Sequential) -> None:
    a = trained_a
    before, outputs = a.get_weights(), a.predict(X[:97], verbose=0)
    states = [s.copy() for states in a.optimizer.states.values() for s in states]
    clone = clone_model(a)
    assert not all(same(clone.get_weights(), before))  # clones begin anew, as in Keras
    clone.set_weights(a.get_weights())
    np.testing.assert_array_equal(clone.predict(X[:97], verbose=0), outputs)
    b = on_top_of(clone)
    b.compile(SGD(0.05, momentum=0.9), "binary_crossentropy")
    fit_b(b)
    assert not any(same(b.get_weights()[:10], before[:10]))
    assert all(same(a.get_weights(), before))
    np.testing.assert_array_equal(a.predict(X[:97], verbose=0), outputs)
    after = [s for states in a.optimizer.states.values() for s in states]
    assert all(same(after, states))
    for mine in a.weights:
        assert not any(np.shares_memory(mine.value, other.value) for other in b.weights)


def test_cloning_after_sharing_is_too_late() -> None:
    """The order of the usual example: B has A's layers already, and the clone is a third model."""
    a = model_a()
    before = a.get_weights()
    b = on_top_of(a)
    clone_model(a).set_weights(a.get_weights())
    b.compile(SGD(0.05), "binary_crossentropy")
    fit_b(b)
    assert not any(same(a.get_weights()[:10], before[:10]))


def test_freeze_train_thaw_with_a_lower_rate(trained_a: Sequential) -> None:
    clone = clone_model(trained_a)
    clone.set_weights(trained_a.get_weights())
    b = on_top_of(clone)
    reused = b.layers[:-1]
    for layer in reused:
        layer.trainable = False
    b.compile(Adam(0.01), "binary_crossentropy")
    before = b.get_weights()
    first = fit_b(b, epochs=1)
    frozen = fit_b(b)
    # Frozen normalisations use, and keep, the statistics of A's training.
    assert same(b.get_weights(), before) == [True] * 10 + [False] * 2
    assert frozen < first

    for layer in reused:
        layer.trainable = True
    still = b.get_weights()
    with pytest.warns(UserWarning, match="was changed after the model was compiled"):
        fit_b(b, epochs=1)
    assert same(b.get_weights(), still) == [True] * 10 + [False] * 2

    for depth, layer in enumerate(reversed(b.layers)):
        layer.learning_rate_multiplier = 0.5**depth
    b.compile(SGD(0.02), "binary_crossentropy")
    still = b.get_weights()
    thawed = fit_b(b, epochs=8)
    assert not any(same(b.get_weights(), still))
    assert thawed < frozen


def test_lower_layers_move_less_with_rates_of_their_own(trained_a: Sequential) -> None:
    """Discriminative rates: plain descent moves a weight in proportion to its rate."""

    def moved(factor: float) -> list[float]:
        clone = clone_model(trained_a)
        clone.set_weights(trained_a.get_weights())
        utils.set_random_seed(2)
        b = on_top_of(clone)
        for depth, layer in enumerate(reversed(b.layers)):
            layer.learning_rate_multiplier = factor**depth
        b.compile(SGD(0.01), "binary_crossentropy")
        before = b.get_weights()
        b.train_on_batch(X[FEW], Y[FEW] > 7)
        return [
            float(np.abs(now - then).max())
            for variable, now, then in zip(b.weights, b.get_weights(), before, strict=True)
            if variable.name == "kernel"
        ]

    equal, halved = moved(1.0), moved(0.5)
    np.testing.assert_allclose(halved[-1], equal[-1], rtol=1e-6)
    np.testing.assert_allclose(halved[1] / equal[1], 0.5**3, rtol=1e-2)
    np.testing.assert_allclose(halved[0] / equal[0], 0.5**6, rtol=1e-2)
