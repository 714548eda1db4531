"""What a training step must not spend: allocations, products nobody reads, calls, passes."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fusednn import activations, callbacks, losses, ops, utils
from fusednn.activations import Activation as Activated
from fusednn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DenseTranspose,
    Dropout,
    Flatten,
    Input,
    Layer,
    LeakyReLU,
    ReLU,
)
from fusednn.layers.buffers import Buffers
from fusednn.layers.dense import InputGradient
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam, Optimizer, RMSprop
from products_of_steps import shapes_of_products

ROWS, FEATURES, CLASSES = 50_000, 8, 10

#: Bytes that a step may take at once: what NumPy needs to broadcast or convert, 8192 elements at a
#: time, and Python's own objects. Less than a truth value for each row.
FEW = 40_000


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


LABELS = np.random.default_rng(1).integers(0, CLASSES, ROWS)
ONE_HOT = np.eye(CLASSES, dtype="float32")[LABELS]

#: Name -> last activation, loss, targets, metrics.
TASKS: dict[str, tuple[str | None, str, np.ndarray, list[str]]] = {
    "labels": ("softmax", "sparse_categorical_crossentropy", LABELS, ["accuracy"]),
    "labels in a column": ("softmax", "sparse_categorical_crossentropy", LABELS[:, None], ["acc"]),
    "short labels": ("softmax", "sparse_categorical_crossentropy", LABELS.astype("u1"), []),
    "one-hot": ("softmax", "categorical_crossentropy", ONE_HOT, ["accuracy"]),
    "one-hot integers": ("softmax", "categorical_crossentropy", ONE_HOT.astype(int), ["accuracy"]),
    "probabilities": ("sigmoid", "categorical_crossentropy", ONE_HOT, ["accuracy"]),
    "regression": (None, "mse", normal(ROWS, CLASSES), []),
    "binary": ("sigmoid", "bce", ONE_HOT, ["binary_accuracy"]),
}


def hidden_layers() -> list[Layer]:
    layers: list[Layer] = []
    for rectifier in (LeakyReLU(), ReLU(max_value=3.0, threshold=0.1)):
        layers += [Dense(7), BatchNormalization(), rectifier, Dropout(0.1)]
    layers += [Dense(6, activation=name) for name in ("tanh", "sigmoid", "selu")]
    return [*layers, Dense(5), Activation("elu")]


def compiled(task: str, optimizer: Optimizer | None = None) -> tuple[Sequential, np.ndarray]:
    last, loss, y, metrics = TASKS[task]
    utils.set_random_seed(0)
    model = Sequential([Input((FEATURES,)), *hidden_layers(), Dense(CLASSES, activation=last)])
    model.compile(optimizer or Adam(), loss, metrics=metrics)
    return model, y


# ---- memory


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the bytes allocated at once since its last call, at most."""
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]

    def peak() -> int:
        nonlocal start
        taken = tracemalloc.get_traced_memory()[1] - start
        tracemalloc.reset_peak()
        start = tracemalloc.get_traced_memory()[0]
        return taken

    try:
        yield peak
    finally:
        tracemalloc.stop()


def test_tracing_sees_a_column_of_a_batch() -> None:
    with traced() as peak:
        peak()
        kept = np.empty(ROWS, np.bool_)
        assert peak() > FEW
        assert peak() < FEW
    assert len(kept) == ROWS


@pytest.mark.parametrize("task", TASKS)
def test_steps_allocate_nothing_after_the_first(task: str) -> None:
    model, y = compiled(task)
    x = normal(ROWS, FEATURES)
    for _ in range(3):
        model.train_on_batch(x, y)
        model.test_on_batch(x, y)
    with traced() as peak:
        for run in (model.train_on_batch, model.test_on_batch):
            peak()
            run(x, y)
            assert peak() < FEW, run.__name__


PLAIN = {"activation": "relu", "loss": "categorical_crossentropy", "metric": "accuracy"}
LOSSES = [
    name
    for name in losses.__all__
    if name.islower() and name not in {"get", "deserialize", "serialize"} and "sparse" not in name
]
KINDS = {
    "activation": [
        name for name, entry in vars(activations).items() if isinstance(entry, Activated)
    ],
    "loss": LOSSES,
    "metric": [
        *(
            name
            for name in LOSSES
            if name not in {"huber", "log_cosh", "logcosh"} and "focal" not in name
        ),
        *("binary_accuracy", "top_k_categorical_accuracy", "RootMeanSquaredError", "LogCoshError"),
        *("Precision", "Recall", "AUC", "TruePositives", "R2Score"),
    ],
}


def taken(rows: int, kind: str, name: str) -> int:
    """Bytes that the third step on so many rows takes at once."""
    parts = PLAIN | {kind: name}
    hidden = Dense(7, activation=parts["activation"])
    model = Sequential([Input((FEATURES,)), hidden, Dense(CLASSES, activation="sigmoid")])
    model.compile(Adam(), parts["loss"], metrics=[parts["metric"]])
    x, y = normal(rows, FEATURES), ONE_HOT[:rows]
    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    with traced() as peak:
        peak()
        model.train_on_batch(x, y)
        return peak()


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, names in KINDS.items() for n in names])
def test_no_activation_loss_or_metric_takes_more_for_more_rows(kind: str, name: str) -> None:
    assert taken(ROWS, kind, name) - taken(ROWS // 5, kind, name) < ROWS // 5


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("optimizer", [Adam, SGD, RMSprop])
def test_batches_of_fit_allocate_nothing_after_the_first(
    optimizer: type[Optimizer], shuffle: bool
) -> None:
    peaks: list[int] = []

    class Watch(callbacks.Callback):
        """From the end of one batch to the end of the next: data, step and logs."""

        def __init__(self, peak: Callable[[], int]) -> None:
            super().__init__()
            self.peak = peak

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            peaks.append(self.peak())

    model, y = compiled("labels", optimizer())
    x = normal(ROWS, FEATURES)
    x, y = np.tile(x, (6, 1)), np.tile(y, 6)
    model.fit(x, y, batch_size=ROWS, shuffle=shuffle, verbose=0)
    with traced() as peak:
        model.fit(x, y, batch_size=ROWS, shuffle=shuffle, verbose=0, callbacks=Watch(peak))
    assert len(peaks) == 6
    assert max(peaks[2:]) < FEW


# ---- work


def test_products_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for each layer, but none for the gradient of the first one's input."""
    model = Sequential([Input((7,)), Dense(5), BatchNormalization(), LeakyReLU(), Dense(3)])
    model.compile(Adam(), "mse")
    x, y = normal(40, 7), normal(40, 3)
    made = shapes_of_products(monkeypatch, lambda: model.train_on_batch(x, y))
    forward = [(40, 7, 5), (40, 5, 3)]
    backward = [(5, 40, 3), (40, 3, 5), (7, 40, 5)]
    assert made == forward + backward


@pytest.mark.parametrize("scale", [False, True])
def test_products_behind_a_normalisation_of_the_inputs(
    monkeypatch: pytest.MonkeyPatch, scale: bool
) -> None:
    """Where it has nothing to train, nothing reads the gradient of the first kernel's input."""
    layers = [BatchNormalization(center=False, scale=scale), Dense(5), Dense(3)]
    model = Sequential([Input((7,)), *layers])
    model.compile(Adam(), "mse")
    x, y = normal(40, 7), normal(40, 3)
    made = shapes_of_products(monkeypatch, lambda: model.train_on_batch(x, y))
    input_gradient = [(40, 5, 7)] if scale else []
    assert sorted(made[2:]) == sorted([(5, 40, 3), (40, 3, 5), (7, 40, 5), *input_gradient])
    assert np.any(model.layers[0].moving_mean.numpy())


def test_products_with_a_frozen_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Sequential([Input((7,)), Dense(5), Dense(6), Dense(3)])
    model.layers[0].trainable = False
    model.compile(Adam(), "mse")
    x, y = normal(40, 7), normal(40, 3)
    made = shapes_of_products(monkeypatch, lambda: model.train_on_batch(x, y))
    assert made[3:] == [(6, 40, 3), (40, 3, 6), (5, 40, 6)]


def test_products_of_a_convolution_and_of_a_tied_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are bound once, as those of `Dense`."""
    dense = Dense(3)
    layers = [Conv2D(5, 2), Conv2D(4, 2), Flatten(), dense, DenseTranspose(dense)]
    model = Sequential([Input((4, 4, 2)), *layers])
    model.compile(SGD(0.01), "mse")
    x, y = normal(6, 4, 4, 2), normal(6, 16, seed=1)
    made = shapes_of_products(monkeypatch, lambda: model.train_on_batch(x, y))
    forward = [(54, 8, 5), (24, 20, 4), (6, 16, 3), (6, 3, 16)]
    tied = [(16, 6, 3), (6, 16, 3)]
    dense_backward = [(16, 6, 3), (6, 3, 16)]
    assert made == [*forward, *tied, *dense_backward, (20, 24, 4), (24, 4, 20), (8, 54, 5)]
    assert shapes_of_products(monkeypatch, lambda: model.train_on_batch(x, y)) == []


def test_a_tied_kernel_reads_each_batch_that_it_is_given() -> None:
    """What is bound to the arrays of one batch is not used for the next one."""
    dense = Dense(3)
    dense.build((None, 5))
    model = Sequential([Input((3,)), DenseTranspose(dense)])
    model.compile(SGD(0.1), "mse")
    for seed in range(3):
        x, y = normal(6, 3, seed=seed), normal(6, 5, seed=9 + seed)
        bias = model.layers[0].bias.numpy()
        expected = bias - 0.1 * 2 * (x @ dense.kernel.numpy().T + bias - y).mean(axis=0) / 5
        model.train_on_batch(x, y)
        np.testing.assert_allclose(model.layers[0].bias.value, expected, rtol=1e-5, atol=1e-6)


def test_one_kernel_call_updates_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    step = ops.adam_step

    def watched(*lists: Any, **options: Any) -> bool:
        calls.append(lists)
        return step(*lists, **options)

    monkeypatch.setattr(ops, "adam_step", watched)
    model, y = compiled("labels")
    x = normal(ROWS, FEATURES)
    model.fit(np.tile(x, (3, 1)), np.tile(y, 3), batch_size=ROWS, verbose=0)
    model.train_on_batch(x[:7], y[:7])
    assert len(calls) == 4
    assert len(calls[0][0]) == len(model.trainable_weights)
    # The kernel may keep what it learned about lists and arrays that it has seen before.
    for later in calls[1:]:
        for first, again in zip(calls[0], later, strict=True):
            assert first is again
    grads = [variable.grad for variable in model.trainable_weights]
    assert all(a is b for a, b in zip(calls[0][1], grads, strict=True))


def test_known_gradients_are_those_of_the_same_tuples_only() -> None:
    model = Sequential([Input((4,)), Dense(3), Dense(2)])
    variables = tuple(model.trainable_weights)
    ones = tuple(np.ones_like(v.value) for v in variables)
    twos = tuple(np.full_like(v.value, 2) for v in variables)
    optimizer = SGD(0.5)
    before = model.get_weights()
    for grads in (ones, ones, twos, ones):
        optimizer.apply(grads, variables)
    optimizer.apply(ones[1:], variables[1:])
    ones[0][...] = 4  # the arrays' contents may change, of course
    optimizer.apply(ones, variables)
    assert optimizer.iterations == 6
    moved = [old - new for old, new in zip(before, model.get_weights(), strict=True)]
    for change, total in zip(moved, (4.5, 3.5, 3.5, 3.5), strict=True):
        np.testing.assert_allclose(change, total, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16, 33])
@pytest.mark.parametrize(("features", "units"), [(45, 1), (45, 97), (257, 256), (512, 513)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_forms_of_the_input_gradient(rows: int, features: int, units: int, dtype: str) -> None:
    kernel, grad = normal(features, units).astype(dtype), normal(rows, units, seed=1).astype(dtype)
    largest = rows * max(features, units)
    grad_x = np.full((rows, features), np.nan, dtype)
    multiply = InputGradient(kernel, grad_x, Buffers(np.dtype(dtype), largest, keep_outputs=True))
    for _ in range(2):
        multiply.bound(normal(rows, units, seed=2).astype(dtype))()
        multiply.bound(grad)()
    expected = grad.astype(float) @ kernel.T.astype(float)
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(grad_x, expected, rtol=tolerance, atol=50 * tolerance)


# ---- the same numbers


def test_plans_that_were_used_before_give_the_bits_of_new_ones() -> None:
    """Whatever a plan keeps from batch to batch has no influence."""
    sizes = [32, 5, 32, 40, 1, 5, 33, 32]

    def run(*, keep: bool) -> list[np.ndarray]:
        model, y = compiled("labels")
        losses = []
        for i, size in enumerate(sizes):
            if not keep:
                model._forget_plans()
            x = normal(size, FEATURES, seed=i)
            losses.append(model.train_on_batch(x, y[i : i + size]))
            losses.append(model.test_on_batch(x, y[i : i + size]))
        return [np.array(losses), *model.get_weights()]

    for kept, made_anew in zip(run(keep=True), run(keep=False), strict=True):
        np.testing.assert_array_equal(kept, made_anew)


def test_a_copy_of_a_model_goes_on_alone() -> None:
    model, y = compiled("labels")
    x = normal(ROWS, FEATURES)
    model.train_on_batch(x, y)
    utils.set_random_seed(5)
    twin = copy.deepcopy(model)
    twin.train_on_batch(x, y)
    after_twin = twin.get_weights()
    utils.set_random_seed(5)
    model.train_on_batch(x, y)
    for a, b in zip(model.get_weights(), after_twin, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weight_decay_reaches_a_bias_that_was_folded_away() -> None:
    """Its gradient is 0 exactly: nothing but the decay moves it, and the moving mean follows it."""
    model = Sequential([Input((6,)), Dense(4, bias_initializer="ones"), BatchNormalization()])
    model.add(Dense(2))
    model.compile(Adam(0.01, weight_decay=0.1), "mse")
    dense, norm = model.layers[:2]
    mean = np.zeros(4)
    for step in range(5):
        x, y = normal(16, 6, seed=step), normal(16, 2, seed=50 + step)
        mean = 0.99 * mean + 0.01 * (x @ dense.kernel.value + dense.bias.value).mean(axis=0)
        model.train_on_batch(x, y)
        np.testing.assert_allclose(dense.bias.value, (1 - 0.001) ** (step + 1), rtol=1e-6)
    np.testing.assert_allclose(norm.moving_mean.value, mean, rtol=1e-5)


def test_a_bias_that_one_model_folds_away_and_another_one_does_not() -> None:
    shared = Dense(4)
    folding = Sequential([Input((6,)), shared, BatchNormalization(), Dense(2)])
    plain = Sequential([Input((6,)), shared, LeakyReLU(), Dense(2)])
    for model in (folding, plain):
        model.compile(SGD(0.1), "mse")
    x, y = normal(16, 6), normal(16, 2, seed=1)
    plain.train_on_batch(x, y)
    bias = shared.bias.numpy()
    assert np.any(bias != 0)
    folding.train_on_batch(x, y)
    np.testing.assert_array_equal(shared.bias.value, bias)
    plain.train_on_batch(x, y)
    assert np.all(shared.bias.value != bias)


def test_accuracy_of_equal_logits_counts_the_first_class() -> None:
    model = Sequential([Input((3,)), Dense(4, "softmax", kernel_initializer="zeros")])
    for loss, y in (
        ("sparse_categorical_crossentropy", np.array([0, 1, 0, 3])),
        ("categorical_crossentropy", np.eye(4)[[0, 1, 0, 3]]),
    ):
        model.compile(SGD(0.0), loss, metrics=["accuracy"])
        assert model.train_on_batch(normal(4, 3), y, return_dict=True)["accuracy"] == 0.5
