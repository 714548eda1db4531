"""How many batches and evaluations an epoch has, and what is reported, against real Keras."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusednn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = np.random.default_rng(0).standard_normal((10, 3)).astype("float32")
Y = X[:, :1] * 2
LABELS = (X[:, :1] > 0).astype("float32")
WEIGHTS = np.linspace(0.1, 1.0, 10, dtype="float32")


def sequence(library: Any, *arrays: np.ndarray) -> Any:
    class Batches(library.utils.PyDataset):  # type: ignore[name-defined, misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
            return tuple(array[4 * index : 4 * index + 4] for array in arrays)

    return Batches()


def generator(count: int) -> Iterator[tuple[np.ndarray, ...]]:
    for i in range(count):
        rows = slice(i % 3 * 4, i % 3 * 4 + 4)
        yield X[rows], Y[rows]


Run = Callable[[Any, Any], Any]


def outcome(library: Any, run: Run) -> tuple[str, Any, list[str]]:
    """Hooks in their order, what `run` returned, and the warnings that data ran out."""
    log: list[str] = []

    class Watch(library.callbacks.Callback):  # type: ignore[name-defined, misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            log.append(f" {epoch}:")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            log.append(f"t{batch}")

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            log.append(f"v{batch}")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            log.append("." + ",".join(logs or {}))

    layers = library.layers
    model = library.Sequential(
        [layers.Input((3,)), layers.Dense(1, kernel_initializer="ones", activation="tanh")]
    )
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    watch = Watch()
    run_fit = model.fit
    model.fit = lambda *a, **k: run_fit(  # type: ignore[method-assign]
        *a, **{"verbose": 0, "shuffle": False, "callbacks": [watch]} | k
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(model, library)
    messages = [str(w.message) for w in caught if "ran out of data" in str(w.message)]
    values = getattr(result, "history", result)
    return "".join(log), values, messages


SIZED: dict[str, Any] = {"batch_size": 4}
RUNS: dict[str, Run] = {
    "epochs": lambda m, k: m.fit(X, Y, **SIZED, epochs=3),
    "initial epoch": lambda m, k: m.fit(X, Y, **SIZED, epochs=5, initial_epoch=3),
    "default size": lambda m, k: m.fit(X, Y, batch_size=None),
    "lists of one": lambda m, k: m.fit([X], [Y], **SIZED),
    "few steps": lambda m, k: m.fit(X, Y, **SIZED, epochs=4, steps_per_epoch=2),
    "as many steps": lambda m, k: m.fit(X, Y, **SIZED, epochs=2, steps_per_epoch=3),
    "many steps": lambda m, k: m.fit(X, Y, **SIZED, epochs=2, steps_per_epoch=5),
    "steps make the size": lambda m, k: m.fit(X, Y, epochs=3, steps_per_epoch=3),
    "one step": lambda m, k: m.fit(X, Y, epochs=2, steps_per_epoch=1, validation_split=0.3),
    "validation steps make the size": lambda m, k: m.fit(
        X, Y, validation_data=(X, Y), validation_steps=3
    ),
    "evaluation steps make the size": lambda m, k: m.evaluate(X, Y, steps=4, verbose=0),
    "prediction steps make the size": lambda m, k: m.predict(X, steps=4, verbose=0),
    "weights": lambda m, k: m.fit(X, Y, **SIZED, sample_weight=WEIGHTS),
    "sequence": lambda m, k: m.fit(sequence(k, X, Y), epochs=2),
    "sequence, weights": lambda m, k: m.fit(sequence(k, X, Y, WEIGHTS), epochs=2),
    "sequence, few steps": lambda m, k: m.fit(sequence(k, X, Y), epochs=4, steps_per_epoch=2),
    "sequence, many steps": lambda m, k: m.fit(sequence(k, X, Y), epochs=2, steps_per_epoch=5),
    "sequence, classes": lambda m, k: m.fit(sequence(k, X, LABELS), class_weight={0: 1.0, 1: 3.0}),
    "generator": lambda m, k: m.fit(generator(6), epochs=3, steps_per_epoch=2),
    "validation": lambda m, k: m.fit(X, Y, **SIZED, epochs=2, validation_data=(X, Y)),
    "weighted validation": lambda m, k: m.fit(X, Y, validation_data=(X, Y, WEIGHTS)),
    "validation size": lambda m, k: m.fit(X, Y, validation_data=(X, Y), validation_batch_size=3),
    "validation steps": lambda m, k: m.fit(
        X, Y, epochs=2, validation_data=(X, Y), validation_batch_size=3, validation_steps=2
    ),
    "many validation steps": lambda m, k: m.fit(
        X, Y, epochs=2, validation_data=(X, Y), validation_batch_size=3, validation_steps=7
    ),
    "validation frequency": lambda m, k: m.fit(
        X, Y, epochs=5, validation_data=(X, Y), validation_freq=2
    ),
    "validation epochs": lambda m, k: m.fit(
        X, Y, epochs=5, validation_data=(X, Y), validation_freq=[1, 4]
    ),
    "validation sequence": lambda m, k: m.fit(X, Y, epochs=2, validation_data=sequence(k, X, Y)),
    "validation generator": lambda m, k: m.fit(
        X, Y, validation_data=generator(6), validation_steps=2
    ),
    "split": lambda m, k: m.fit(X, Y, **SIZED, epochs=2, validation_split=0.3),
    "weighted split": lambda m, k: m.fit(X, Y, validation_split=0.3, sample_weight=WEIGHTS),
    "evaluate": lambda m, k: m.evaluate(X, Y, batch_size=4, verbose=0),
    "evaluate few steps": lambda m, k: m.evaluate(X, Y, batch_size=4, steps=2, verbose=0),
    "evaluate many steps": lambda m, k: m.evaluate(X, Y, batch_size=4, steps=5, verbose=0),
    "evaluate a sequence": lambda m, k: m.evaluate(sequence(k, X, Y), verbose=0),
    "evaluate a generator": lambda m, k: m.evaluate(generator(5), steps=2, verbose=0),
    "predict": lambda m, k: m.predict(X, batch_size=4, verbose=0),
    "predict few steps": lambda m, k: m.predict(X, batch_size=4, steps=2, verbose=0),
    "predict many steps": lambda m, k: m.predict(X, batch_size=4, steps=9, verbose=0),
    "predict a sequence": lambda m, k: m.predict(sequence(k, X, Y), verbose=0),
    "predict a generator": lambda m, k: m.predict(generator(5), steps=2, verbose=0),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_same_as_keras(run: Run) -> None:
    log, values, messages = outcome(fusednn, run)
    their_log, their_values, their_messages = outcome(keras, run)
    assert log == their_log
    assert messages == their_messages
    if isinstance(their_values, dict):
        assert list(values) == list(their_values)
        values, their_values = list(values.values()), list(their_values.values())
        for own, their in zip(values, their_values, strict=True):
            np.testing.assert_allclose(own, their, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(values, their_values, rtol=1e-5, atol=1e-6)
