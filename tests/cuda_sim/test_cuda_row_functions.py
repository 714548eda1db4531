"""Softmax and functions of a user's own, hidden or last, in models on the simulated GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from models_on_device import CLASSES, FEATURES, RNG, ROWS, X, assert_close, fitted

import fusednn
from fusednn import activations, utils
from fusednn.layers import Activation, BatchNormalization, Dense, Flatten, Input, Layer, Reshape
from fusednn.layers import Softmax as SoftmaxLayer
from fusednn.models import Sequential

HIDDEN: dict[str, Callable[[], list[Layer]]] = {
    "softmax": lambda: [Dense(5, activation="softmax")],
    "log_softmax": lambda: [Dense(5, activation="log_softmax")],
    "normalised": lambda: [Dense(5), BatchNormalization(), SoftmaxLayer()],
    "axis": lambda: [Dense(6), Reshape((2, 3)), SoftmaxLayer(axis=1), Flatten()],
    "axes": lambda: [Dense(12), Reshape((2, 3, 2)), SoftmaxLayer(axis=(1, -1)), Flatten()],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_functions_of_rows_train_as_on_the_cpu(cupy, name):
    def make() -> list[Layer]:
        return [*HIDDEN[name](), Dense(CLASSES, activation="softmax")]

    ours, our_logs = fitted("cuda", make)
    theirs, their_logs = fitted("cpu", make)
    assert_close(ours.get_weights(), theirs.get_weights())
    np.testing.assert_allclose(our_logs["loss"], their_logs["loss"], rtol=1e-5)
    # Of all runs the last ones were graphs: nothing of it needs the host.
    assert cupy.runtime.launches > 0


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_as_the_last_layer_before_another_loss(cupy, name):
    targets = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32)
    weights, outputs = [], []
    for device in ("cuda", "cpu"):
        utils.set_random_seed(0)
        model = Sequential([Input((FEATURES,)), Dense(CLASSES), Activation(name)])
        model.compile("adam", "mse")
        with fusednn.device(device):
            for _ in range(5):
                model.train_on_batch(X, targets)
            outputs.append(model.predict(X, verbose=0))
        weights.append(model.get_weights())
    assert_close(*weights)
    assert_close([outputs[0]], [outputs[1]])


class Doubled(activations.Activation):
    """No `Elementwise`: it may do with NumPy what it likes."""

    name = "doubled"

    def forward(self, x, out=None, work=None):
        assert isinstance(x, np.ndarray)
        return np.multiply(x, 2, out=out)

    def backward(self, grad, x, y, out=None, work=None):
        return np.multiply(grad, 2, out=out)


def test_functions_of_a_users_own_are_the_hosts_and_come_last(cupy):
    def hidden() -> list[Layer]:
        return [Dense(5), Activation(Doubled()), Dense(CLASSES, activation="softmax")]

    message = "`layers` must all have a form for GPUs under .*'cuda:0'.*layer 'activation"
    with pytest.raises(NotImplementedError, match=message):
        fitted("cuda", hidden)

    def last() -> list[Layer]:
        return [Dense(5, activation="tanh"), Dense(CLASSES), Activation(Doubled())]

    weights = []
    for device in ("cuda", "cpu"):
        utils.set_random_seed(0)
        model = Sequential([Input((FEATURES,)), *last()])
        model.compile("adam", "mse")
        with fusednn.device(device):
            model.fit(X, X[:, :CLASSES], epochs=3, verbose=0)
        weights.append(model.get_weights())
    assert_close(*weights)
