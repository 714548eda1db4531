"""Models on the simulated GPU: what the CPU computes, in graphs, with NumPy's arrays outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models_on_device import (
    CLASSES,
    FEATURES,
    LABELS,
    RNG,
    ROWS,
    Make,
    X,
    assert_close,
    compiled,
    fitted,
    network,
)

import fusednn
from fusednn import (
    activations,
    callbacks,
    constraints,
    optimizers,
    regularizers,
    utils,
)
from fusednn.diagnostics import DiagnosticsCallback
from fusednn.layers import (
    ELU,
    Activation,
    AlphaDropout,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DenseTranspose,
    Dropout,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    GlobalAveragePooling2D,
    Input,
    Layer,
    LeakyReLU,
    MaxPooling2D,
    Normalization,
    PReLU,
    ReLU,
    Rescaling,
    Reshape,
)
from fusednn.models import Sequential

# ---- training


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_the_cpus(cupy, dtype):
    ours, our_logs = fitted("cuda", lambda: network(dtype))
    theirs, their_logs = fitted("cpu", lambda: network(dtype))
    assert_close(ours.get_weights(), theirs.get_weights(), dtype)
    for name, values in their_logs.items():
        np.testing.assert_allclose(our_logs[name], values, rtol=1e-5)
    with fusednn.device("gpu:0"):
        results = ours.evaluate(X, LABELS, verbose=0)
        outputs = ours.predict(X, verbose=0)
        assert type(outputs) is np.ndarray
        assert_close([outputs[:7]], [ours.predict_on_batch(X[:7])], dtype)
        assert_close([outputs], [ours(X)], dtype)
    np.testing.assert_allclose(results, theirs.evaluate(X, LABELS, verbose=0), rtol=1e-5)
    assert_close([outputs], [theirs.predict(X, verbose=0)], dtype)


def test_from_the_second_batch_of_a_size_on_graphs_are_replayed(cupy):
    with fusednn.device("cuda"):
        model = compiled()
        blas, launches = [], []
        for _ in range(6):
            model.train_on_batch(X, LABELS)
            blas.append(cupy.blas.calls)
            launches.append(cupy.runtime.launches)
    # Forward: seen, captured, replayed. The update is another one after the first step.
    assert launches == [0, 1, 3, 5, 7, 9]
    assert cupy.runtime.graphs == 2
    assert blas[2:] == [blas[2]] * 4
    assert blas[2] > 0


def test_work_that_starts_late(cupy, gpu):
    """Nothing that the host overwrites or gives up is read by the device later."""
    gpu.set(deferred=1)
    ours, _ = fitted("cuda", batch_size=10)
    gpu.set(deferred=0)
    theirs, _ = fitted("cpu", batch_size=10)
    assert_close(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize("epochs", [1, 4])
def test_diagnostics_of_training(cupy, epochs):
    """A step that is looked at is done step by step, between others that are replayed."""

    def watched(device: str) -> tuple[Sequential, Any]:
        probe = DiagnosticsCallback(verbose=0, every=3)
        return fitted(device, epochs=epochs, callbacks=[probe])[0], probe.signals

    (ours, mine), (theirs, its) = watched("cuda"), watched("cpu")
    assert_close(ours.get_weights(), theirs.get_weights())
    assert len(mine) == epochs
    for a, b in zip(mine, its, strict=True):
        for layer, other in zip(a.layers, b.layers, strict=True):
            names = ("mean", "std", "saturated", "gradient_std", "weight_gradient")
            seen, wanted = ([getattr(x, name) or 0.0 for name in names] for x in (layer, other))
            assert layer.kind == other.kind
            assert seen == pytest.approx(wanted, rel=1e-3, abs=1e-5)


NETWORKS: dict[str, Make] = {
    "frozen": lambda: [
        Dense(5, trainable=False),
        BatchNormalization(trainable=False),
        ReLU(),
        Dense(4),
        BatchNormalization(trainable=False, scale=False),
        Dense(CLASSES, activation="softmax"),
    ],
    "nested": lambda: [
        Sequential([Dense(8), BatchNormalization(momentum=0.9)]),
        Sequential([LeakyReLU(), Sequential([Dense(4)]), Dense(CLASSES, activation="softmax")]),
    ],
    "tied": lambda: [
        Dense(8, activation="tanh", name="tied"),
        DenseTranspose("tied", "tanh"),
        Dense(CLASSES, activation="softmax"),
    ],
    "bounded": lambda: [Dense(8), ReLU(1.0, 0.1, 0.05), Dense(CLASSES, activation="softmax")],
    "dropout": lambda: [
        Dropout(0.3),
        Dense(8, activation="relu"),
        Dropout(0.5, seed=3),
        Dense(CLASSES, activation="softmax"),
    ],
    "flat": lambda: [Flatten(), ELU(0.5), Dense(CLASSES, use_bias=False), Activation("softmax")],
    "penalties": lambda: [
        Dense(8, kernel_regularizer=regularizers.L1L2(0.01, 0.02), activation="elu"),
        Dense(
            CLASSES,
            kernel_constraint=constraints.MaxNorm(0.5),
            bias_constraint="non_neg",
            activation="softmax",
        ),
    ],
    "noise": lambda: [
        GaussianNoise(0.1),
        Dense(6, activation="selu"),
        AlphaDropout(0.2),
        GaussianDropout(0.2),
        Dense(CLASSES, activation="softmax"),
    ],
    "scaled": lambda: [
        Rescaling(0.5, [1.0] * FEATURES),
        Normalization(mean=0.1, variance=2.0),
        Dense(6),
        Normalization(mean=0.1, variance=2.0, invert=True),
        Dense(CLASSES, activation="softmax"),
    ],
    "learned slopes": lambda: [
        PReLU("ones", trainable=False),
        Dense(6),
        PReLU(),
        Reshape((2, 3)),
        PReLU(shared_axes=1),
        Flatten(),
        Dense(CLASSES, activation="softmax"),
    ],
    "images": lambda: [
        Reshape((2, 3, 1)),
        Conv2D(4, 2, padding="same", use_bias=False),
        BatchNormalization(axis=-1),
        ReLU(),
        MaxPooling2D(2, strides=1, padding="same"),
        Conv2D(3, (1, 2)),
        AveragePooling2D((2, 1), strides=1, padding="same"),
        Conv2D(5, (2, 1)),
        GlobalAveragePooling2D(),
        Dense(CLASSES, activation="softmax"),
    ],
    "channels first": lambda: [
        Reshape((1, 2, 3)),
        Conv2D(4, 2, padding="same", use_bias=False, data_format="channels_first"),
        BatchNormalization(axis=1),
        MaxPooling2D(2, strides=1, padding="same", data_format="channels_first"),
        AveragePooling2D((2, 1), strides=1, data_format="channels_first"),
        GlobalAveragePooling2D("channels_first", keepdims=True),
        Flatten("channels_first"),
        Dense(CLASSES, activation="softmax"),
    ],
    "watched": lambda: [
        Dense(8, activity_regularizer=regularizers.L1L2(0.01, 0.02), activation="relu"),
        Dense(CLASSES, kernel_regularizer="orthogonal_regularizer", activation="softmax"),
    ],
    "softmax twice": lambda: [Dense(CLASSES), Activation("softmax"), Activation("softmax")],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers(cupy, name):
    ours, our_logs = fitted("cuda", NETWORKS[name])
    theirs, their_logs = fitted("cpu", NETWORKS[name])
    assert_close(ours.get_weights(), theirs.get_weights())
    np.testing.assert_allclose(our_logs["loss"], their_logs["loss"], rtol=1e-5)


def of_the_package() -> list[str]:
    made = {name: value for name, value in vars(activations).items() if name in activations.__all__}
    return sorted(name for name, value in made.items() if isinstance(value, activations.Activation))


@pytest.mark.parametrize("name", of_the_package())
def test_all_activations_run(cupy, name):
    def make() -> list[Layer]:
        return [Dense(5), Activation(name), Dense(CLASSES, activation="softmax")]

    ours, _ = fitted("cuda", make)
    theirs, _ = fitted("cpu", make)
    assert_close(ours.get_weights(), theirs.get_weights())
    # Of all runs the last ones were graphs: nothing of it needs the host.
    assert cupy.runtime.launches > 0


def test_regression_and_outputs_of_more_axes(cupy):
    x = RNG.normal(size=(20, 4, 5))
    y = RNG.normal(size=(20, 4, 2))
    weights = []
    for device in ("cuda", "cpu"):
        utils.set_random_seed(0)
        model = Sequential(
            [Input((4, 5)), Dense(3), BatchNormalization(axis=1), LeakyReLU(), Dense(2)]
        )
        model.compile("sgd", "mse", metrics=["mse"])
        with fusednn.device(device):
            model.fit(x, y, epochs=5, batch_size=8, verbose=0)
            assert model.predict(x, verbose=0).shape == (20, 4, 2)
        weights.append(model.get_weights())
    assert_close(*weights)


@pytest.mark.parametrize(
    "options", [{"sample_weight": LABELS + 0.5}, {"class_weight": {0: 2.0, 1: 0.5, 2: 1.0}}]
)
def test_weights_of_samples(cupy, options):
    ours, our_logs = fitted("cuda", **options)
    theirs, their_logs = fitted("cpu", **options)
    assert_close(ours.get_weights(), theirs.get_weights())
    np.testing.assert_allclose(our_logs["loss"], their_logs["loss"], rtol=1e-5)


def test_a_setting_that_changes_is_obeyed(cupy):
    weights = []
    for device in ("cuda", "cpu"):
        with fusednn.device(device):
            model = compiled(optimizer=optimizers.Adam(0.01))
            for step in range(8):
                if step == 4:
                    model.optimizer.learning_rate = 0.1
                    model.optimizer.weight_decay = 0.5
                if step == 6:
                    model.optimizer.iterations = 50
                model.train_on_batch(X, LABELS)
            assert model.optimizer.iterations == 52
        weights.append(model.get_weights())
    assert_close(*weights)


def test_a_loss_that_is_not_finite_changes_nothing(cupy):
    with fusednn.device("cuda"):
        model = compiled()
        for _ in range(3):
            model.train_on_batch(X, LABELS)
        before = model.get_weights()
        bad = X.copy()
        bad[3, 2] = np.nan
        with pytest.raises(FloatingPointError, match="The loss is nan in epoch 1/1, batch 1/1"):
            model.fit(bad, LABELS, batch_size=ROWS, verbose=0)
        with pytest.raises(ValueError, match=r"Labels must be in \[0, 3\)"):
            model.train_on_batch(X, LABELS + 9)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        model.train_on_batch(X, LABELS)
    theirs = compiled()
    for _ in range(4):
        theirs.train_on_batch(X, LABELS)
    assert_close(model.get_weights(), theirs.get_weights())


def test_callbacks_see_numbers_of_the_host(cupy):
    seen: list[Any] = []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            seen.extend(logs.values())
            seen.extend(self.model.get_weights())

    stop = callbacks.EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
    fitted("cuda", callbacks=[Watch(), stop], validation_split=0.2)
    assert seen
    assert {type(value) for value in seen} <= {float, np.ndarray}


# ---- refusals


def test_what_has_no_form_for_gpus_is_refused(cupy):
    def check(make: Make, message: str) -> None:
        with pytest.raises(NotImplementedError, match=f"`layers` must all .* Received: {message}"):
            fitted("cuda", make)
        fitted("cpu", make)

    def end() -> Dense:
        return Dense(CLASSES, activation="softmax")

    class Own(Layer):
        def call(self, inputs: np.ndarray) -> np.ndarray:
            return inputs * 2

        def backward(self, grad: np.ndarray) -> np.ndarray:
            return grad * 2

    check(lambda: [Dense(4), Own(name="mine"), end()], "layer 'mine', whose CallStep")
    check(
        lambda: [
            Dense(4),
            Reshape((1, 1, 4)),
            Conv2D(2, 1, groups=2, name="parts"),
            Flatten(),
            end(),
        ],
        "layer 'parts', whose GroupedConv2DStep",
    )


def test_groups_at_the_end_of_a_model_are_refused(cupy):
    model = Sequential([Input((1, 1, 4)), Conv2D(2, 1, groups=2)])
    with pytest.raises(NotImplementedError), fusednn.device("cuda"):
        model.predict(np.ones((3, 1, 1, 4), np.float32), verbose=0)


def test_what_cannot_be_captured_is_done_step_by_step(cupy):
    class Odd(constraints.Constraint):
        def apply(self, w: Any, work: Any) -> None:
            w *= 0.5 if float(w.max()) > 0.1 else 1.0

    def make() -> list[Layer]:
        return [Dense(CLASSES, kernel_constraint=Odd(), activation="softmax")]

    ours, _ = fitted("cuda", make)
    theirs, _ = fitted("cpu", make)
    assert_close(ours.get_weights(), theirs.get_weights())
