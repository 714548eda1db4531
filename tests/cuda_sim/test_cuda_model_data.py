"""Data that are CuPy's: they stay on the simulated GPU, or are copied for a model elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import stand_in_cupy
from models_on_device import FEATURES, LABELS, RNG, ROWS, X, assert_close, compiled, network

import fusednn
from fusednn import devices, utils
from fusednn.layers import BatchNormalization
from fusednn.models.population import recalibrate_batch_norm

WEIGHTS = RNG.uniform(0.5, 2, ROWS)


@pytest.fixture
def copied(cupy: stand_in_cupy.Module, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what was copied to the host."""
    shapes: list[tuple[int, ...]] = []
    get = stand_in_cupy.ndarray.get

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        shapes.append(self.shape)
        return get(self, *arguments, **options)

    monkeypatch.setattr(stand_in_cupy.ndarray, "get", counted)
    return shapes


def on_gpu(values: np.ndarray) -> Any:
    return devices.by_name("cuda").array(values)


def trained(x: Any, y: Any, **options: Any) -> tuple[list[np.ndarray], dict[str, list[float]]]:
    model = compiled()
    utils.set_random_seed(1)
    history = model.fit(x, y, **{"epochs": 3, "verbose": 0, **options})
    return model.get_weights(), history.history


def assert_same(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours[1] == theirs[1]


def test_numpy_may_not_convert_them(cupy):
    for convert in (np.asarray, np.array, np.ascontiguousarray):
        with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
            convert(on_gpu(X))


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_fit_is_that_of_numpys_arrays_and_copies_no_input(cupy, gpu, copied, shuffle, late):
    options = {"shuffle": shuffle, "batch_size": 20, "validation_split": 0.25}
    with fusednn.device("cuda"):
        theirs = trained(X, LABELS, sample_weight=WEIGHTS, **options)
        x, y, weights = map(on_gpu, (X, LABELS, WEIGHTS))
        gpu.set(deferred=late)
        del copied[:]
        ours = trained(x, y, sample_weight=weights, **options)
        gpu.set(deferred=0)
    assert_same(ours, theirs)
    assert copied.count((ROWS,)) == 2  # targets and weights, once
    assert not any(shape[-1:] == (FEATURES,) for shape in copied)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: np.rint(4 * x).astype(np.int64),
        lambda x: x > 0,
    ],
    ids=["float64", "int64", "bool"],
)
def test_other_types_are_converted_on_the_gpu(cupy, copied, convert):
    values = convert(X)
    with fusednn.device("cuda"):
        theirs = trained(values, LABELS)
        assert_same(trained(on_gpu(values), on_gpu(LABELS)), theirs)
    assert (ROWS, FEATURES) not in copied


def test_views_of_any_order(cupy, copied):
    wide = on_gpu(np.repeat(X, 2, axis=1))
    with fusednn.device("cuda"):
        theirs = trained(X, LABELS)
        assert_same(trained(wide[:, ::2], LABELS), theirs)
        assert_same(trained([on_gpu(X.T.copy()).T], on_gpu(LABELS)), theirs)
    assert (ROWS, FEATURES) not in copied


def test_batches_of_a_generator_and_validation_data(cupy):
    def batches(place: Any) -> Iterator[Any]:
        while True:
            for start in range(0, ROWS, 20):
                yield place(X[start : start + 20]), place(LABELS[start : start + 20])

    def run(place: Any) -> Any:
        tested = (place(X[:30]), place(LABELS[:30]), place(WEIGHTS[:30]))
        return trained(batches(place), None, steps_per_epoch=5, validation_data=tested)

    with fusednn.device("cuda"):
        assert_same(run(on_gpu), run(np.copy))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_all_that_a_model_computes(cupy, copied, device):
    x, y, weights = map(on_gpu, (X, LABELS, WEIGHTS))
    with fusednn.device(device):
        model = compiled()
        for ours, theirs in (
            (model.evaluate(x, y, 32, 0, weights), model.evaluate(X, LABELS, 32, 0, WEIGHTS)),
            (model.test_on_batch(x, y, weights), model.test_on_batch(X, LABELS, WEIGHTS)),
            (model.predict(x, verbose=0), model.predict(X, verbose=0)),
            (model.predict_on_batch(x), model.predict_on_batch(X)),
            (model(x), model(X)),
        ):
            assert type(ours) is type(theirs)
            np.testing.assert_array_equal(ours, theirs)
        twin = compiled()
        for _ in range(3):
            assert model.train_on_batch(x, y, weights) == twin.train_on_batch(X, LABELS, WEIGHTS)
        assert_close(model.get_weights(), twin.get_weights())
    # To the CPU's model once in each call.
    assert copied.count((ROWS, FEATURES)) == (0 if device == "cuda" else 8)


def test_a_model_on_the_cpu_trains_on_a_copy(cupy, copied):
    theirs = trained(X, LABELS)
    assert_same(trained(on_gpu(X), on_gpu(LABELS)), theirs)
    assert copied == [(ROWS, FEATURES), (ROWS,)]


def test_what_the_caller_still_computes_is_waited_for(cupy, monkeypatch):
    waited = []
    x = on_gpu(X)
    with fusednn.device("cuda"):
        model = compiled()
        model.predict(x, verbose=0)
        caller = cupy.cuda.get_current_stream()
        monkeypatch.setattr(caller, "synchronize", lambda: waited.append(caller))
        model.predict(x, verbose=0)
    assert waited == [caller]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_what_does_not_fit_is_refused_by_name(cupy, device):
    with fusednn.device(device):
        model = compiled()
        with pytest.raises(ValueError, match=r"`x` must have shape \(None, 6\).* \(97, 5\)"):
            model.fit(on_gpu(X[:, :5].copy()), LABELS)
        with pytest.raises(ValueError, match=r"`y` must hold as many samples as .*, 97.* 90 s"):
            model.fit(on_gpu(X), on_gpu(LABELS[:90]))
        with pytest.raises(TypeError, match=r"`x` must be an array of real numbers.* complex64"):
            model.predict(on_gpu(X.astype(np.complex64)))
        with pytest.raises(ValueError, match="`sample_weight` must hold finite numbers >= 0"):
            model.fit(on_gpu(X), LABELS, sample_weight=on_gpu(-WEIGHTS))


def test_statistics_of_data_on_the_gpu(cupy):
    weights = []
    for values in (on_gpu(X), X):
        with fusednn.device("cuda"):
            model = compiled(lambda: [BatchNormalization(), *network()])
            recalibrate_batch_norm(model, values)
        weights.append(model.get_weights())
    assert_close(*weights)
