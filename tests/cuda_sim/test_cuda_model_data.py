"""Data that are CuPy's: they stay on the simulated GPU, or are copied for a model elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import stand_in_cupy
from models_on_device import FEATURES, LABELS, RNG, ROWS, X, assert_close, compiled, network

import fusednn
from fusednn import devices, utils
from fusednn.callbacks import LambdaCallback
from fusednn.data import Dataset, PyDataset
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
    gpu: Any = devices.by_name("cuda")
    array = gpu.array(values)
    gpu.stream.synchronize()  # who uses it has a stream of their own
    return array


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


def pipelines(data: Dataset) -> dict[str, Dataset]:
    """Batches in each way that rows are read: views, copies, one by one, ahead of time."""

    def changed(x: Any, y: Any) -> Any:
        return x * np.float32(2), y

    return {
        "in order": data.batch(20),
        "shuffled": data.shuffle(seed=3).batch(20),
        "mapped": data.shuffle(30, seed=4).map(changed).batch(20),
        "ahead": data.shuffle(seed=5).batch(20).map(changed).prefetch(2),
        "batches of one": data.take(3).repeat(2).batch(1),
    }


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("name", pipelines(Dataset.from_tensor_slices((X, LABELS))))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_datasets(cupy, gpu, copied, device, name, late):
    with fusednn.device(device):
        theirs = trained(pipelines(Dataset.from_tensor_slices((X, LABELS)))[name], None)
        data = Dataset.from_tensor_slices((on_gpu(X), on_gpu(LABELS)))
        gpu.set(deferred=late)
        del copied[:]
        ours = trained(pipelines(data)[name], None)
        gpu.set(deferred=0)
    assert_same(ours, theirs)
    if device == "cuda":
        assert not any(shape[-1:] == (FEATURES,) for shape in copied)


def test_elements_of_datasets_are_on_the_gpu(cupy):
    x, y = on_gpu(X), on_gpu(LABELS)
    for element in Dataset.from_tensor_slices((x, y)).skip(5).take(1):
        assert [part.shape for part in element] == [(FEATURES,), ()]
        np.testing.assert_array_equal(element[0].get(), X[5])
        assert element[1].get() == LABELS[5]
    (batch,) = Dataset.from_tensor_slices(x).shuffle(seed=1).batch(ROWS)
    assert devices.is_cupys(batch)
    assert sorted(batch.get()[:, 0]) == sorted(X[:, 0])
    (batch,) = Dataset.from_tensor_slices([*x]).batch(ROWS)  # a list of rows
    np.testing.assert_array_equal(batch.get(), X)


class Counted(PyDataset):
    """Batches of CuPy that threads make."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.x, self.y = on_gpu(X), on_gpu(LABELS)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        part = slice(20 * index, 20 * index + 20)
        return self.x[part], self.y[part]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_a_thread_still_computes_is_waited_for(cupy, monkeypatch, workers):
    """CuPy's current stream is each thread's own: the thread that made a batch must wait."""
    waited: list[str] = []
    wait = stand_in_cupy.Stream.synchronize

    def counted(self: Any) -> None:
        waited.append(threading.current_thread().name)
        wait(self)

    def run(data: Any) -> Any:
        with fusednn.device("cuda"):
            return trained(data, None, shuffle=False, epochs=1)

    rows = Dataset.from_tensor_slices((X[:80], LABELS[:80])).batch(20)
    theirs = run(rows)
    monkeypatch.setattr(stand_in_cupy.Stream, "synchronize", counted)
    on_gpu_rows = Dataset.from_tensor_slices((on_gpu(X[:80]), on_gpu(LABELS[:80]))).batch(20)
    data = Counted(workers=workers) if workers > 1 else on_gpu_rows.prefetch(1)
    assert_same(run(data), theirs)
    whose = "fusednn worker" if workers > 1 else "fusednn prefetch"
    assert sum(name.startswith(whose) for name in waited) == 8  # both parts of four batches


def test_lists_of_arrays(cupy, copied):
    with fusednn.device("cuda"):
        theirs = trained(X, LABELS, sample_weight=WEIGHTS)
        x, y, weights = map(on_gpu, (X, LABELS, WEIGHTS))
        numbers = ([part[i, ...] for i in range(ROWS)] for part in (y, weights))
        assert_same(trained([*x], next(numbers), sample_weight=next(numbers)), theirs)
        assert (ROWS, FEATURES) not in copied
        model = compiled()
        np.testing.assert_array_equal(
            model.predict([[x[0, i, ...] for i in range(FEATURES)]], verbose=0),
            model.predict(X[:1], verbose=0),
        )


def test_lists_of_arrays_that_are_refused(cupy):
    x = on_gpu(X)
    model = compiled()
    message = r"`x` must be a rectangular .* CuPy's arrays must have no others.*: type=ndarray"
    with pytest.raises(ValueError, match=message):
        model.fit([x[0], X[1]], LABELS[:2])
    with pytest.raises(ValueError, match="`x` must be a rectangular array of numbers"):
        model.fit([x[0], x[1, :3]], LABELS[:2])
    message = r"`tensors\[1\]` must be a rectangular array of numbers"
    with pytest.raises(ValueError, match=message):
        Dataset.from_tensor_slices((x, [x[0], LABELS]))
    with pytest.raises(TypeError, match=r"`tensors\[0\]` must be an array of real numbers"):
        Dataset.from_tensor_slices(on_gpu(X.astype(np.complex64)))
    data = Dataset.from_tensor_slices((x, on_gpu(LABELS))).map(
        lambda x, y: (x[: int(y.get()) + 1], y)
    )
    with pytest.raises(ValueError, match="elements of a batch must have the same parts and shapes"):
        next(iter(data.batch(ROWS)))


@pytest.mark.parametrize("first", ["cuda", "cpu"])
@pytest.mark.parametrize("data", ["arrays", "shuffled", "dataset"])
def test_a_callback_that_changes_the_device(cupy, first, data):
    """Inputs that were made for one device train on the other from the next batch on."""
    other = {"cuda": "cpu", "cpu": "cuda"}

    def run(place: Any) -> Any:
        def change(epoch: int, logs: Any) -> None:
            fusednn.device(other[devices.current().name.partition(":")[0]])

        x, y = place(X), place(LABELS)
        callback = LambdaCallback(on_epoch_begin=change)
        with fusednn.device(first):
            if data == "dataset":
                rows = Dataset.from_tensor_slices((x, y)).shuffle(seed=1).batch(20)
                return trained(rows, None, epochs=4, callbacks=[callback])
            shuffle = data == "shuffled"
            return trained(x, y, epochs=4, shuffle=shuffle, callbacks=[callback])

    assert_same(run(on_gpu), run(np.copy))


def test_places_change_in_the_middle_of_a_training(cupy, copied):

    def run(place: Any) -> Any:
        model = compiled()
        utils.set_random_seed(1)
        x, y, losses = place(X), place(LABELS), []
        for device in ("cuda", "cpu", "cuda", "cpu"):
            with fusednn.device(device):
                losses += model.fit(x, y, epochs=2, verbose=0, batch_size=20).history["loss"]
                losses.append(model.evaluate(x, y, verbose=0)[0])
        return model.get_weights(), {"loss": losses}

    theirs = run(np.copy)
    assert_same(run(on_gpu), theirs)
    # Of inputs, once in each call on the CPU.
    assert copied.count((ROWS, FEATURES)) == 4


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
    for values in (on_gpu(X), on_gpu(X.astype(np.float64)), X):
        with fusednn.device("cuda"):
            model = compiled(lambda: [BatchNormalization(), *network()])
            recalibrate_batch_norm(model, values)
        weights.append(model.get_weights())
    for ours in weights[:2]:
        assert_close(ours, weights[2])
