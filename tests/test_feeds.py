"""fit, evaluate and predict on data sets, sequences of batches, iterables and generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fusednn import callbacks, utils
from fusednn.data import Dataset, PyDataset
from fusednn.layers import BatchNormalization, Dense, Input, LeakyReLU
from fusednn.models import Sequential
from fusednn.optimizers import Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype("float32")
Y = RNG.standard_normal((50, 2)).astype("float32")
LABELS = RNG.integers(0, 3, 50)
WEIGHTS = RNG.random(50).astype("float32")
SIZE = 16
STARTS = range(0, 50, SIZE)


def regressor() -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((6,)), Dense(4), BatchNormalization(), LeakyReLU(), Dense(2)])
    model.compile(Adam(0.01), "mse", metrics=["mae"])
    return model


def batches(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    for start in STARTS:
        yield tuple(array[start : start + SIZE] for array in arrays)


class ByNumber(PyDataset):
    """Batches by their number."""

    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__()
        self.batches = list(batches(*arrays))
        self.asked: list[int] = []
        self.told: list[str] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        self.asked.append(index)
        return self.batches[index]

    def on_epoch_begin(self) -> None:
        self.told.append("begin")

    def on_epoch_end(self) -> None:
        self.told.append("end")


class Loader:
    """An iterable that starts again, of unknown length, with lists as of PyTorch's `DataLoader`."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return map(list, batches(*self.arrays))


def source(kind: str, *arrays: np.ndarray, epochs: int = 1) -> Any:
    if kind == "dataset":
        return Dataset.from_tensor_slices(arrays).batch(SIZE)
    if kind == "prefetched":
        return Dataset.from_generator(lambda: batches(*arrays)).prefetch(2)
    if kind == "sequence":
        return ByNumber(*arrays)
    if kind == "loader":
        return Loader(*arrays)
    return (batch for _ in range(epochs) for batch in batches(*arrays))


KINDS = ["dataset", "prefetched", "sequence", "loader", "generator"]


def same_bits(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


# ---- the same as arrays


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_that_on_arrays(kind: str, weighted: bool) -> None:
    arrays = (X, Y, WEIGHTS) if weighted else (X, Y)
    expected = regressor()
    weights = WEIGHTS if weighted else None
    history = expected.fit(
        X, Y, SIZE, epochs=3, shuffle=False, sample_weight=weights, verbose=0
    ).history
    model = regressor()
    data = source(kind, *arrays, epochs=3)
    steps = len(STARTS) if kind == "generator" else None
    got = model.fit(data, epochs=3, shuffle=False, steps_per_epoch=steps, verbose=0).history
    assert got == history
    assert same_bits(model.get_weights(), expected.get_weights())


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_prediction_are_those_of_arrays(kind: str) -> None:
    model = regressor()
    assert model.evaluate(source(kind, X, Y)) == model.evaluate(X, Y, SIZE)
    assert model.evaluate(source(kind, X, Y), steps=2) == model.evaluate(X[:32], Y[:32], SIZE)
    expected = model.predict(X, SIZE)
    np.testing.assert_array_equal(model.predict(source(kind, X)), expected)
    np.testing.assert_array_equal(model.predict(source(kind, X, Y)), expected)
    np.testing.assert_array_equal(model.predict(source(kind, X), steps=2), expected[:32])
    np.testing.assert_array_equal(model.predict(X, SIZE, steps=2), expected[:32])


@pytest.mark.parametrize("kind", KINDS)
def test_validation_is_that_on_arrays(kind: str) -> None:
    options: dict[str, Any] = {"shuffle": False, "verbose": 0, "epochs": 2, "batch_size": SIZE}
    expected = regressor().fit(X, Y, validation_data=(X, Y), **options).history
    steps = len(STARTS) if kind == "generator" else None
    data = source(kind, X, Y, epochs=2)
    got = regressor().fit(X, Y, validation_data=data, validation_steps=steps, **options).history
    assert got == expected


def test_class_weights_with_batches() -> None:
    def trained(*data: Any, **options: Any) -> list[np.ndarray]:
        utils.set_random_seed(1)
        model = Sequential([Input((6,)), Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(*data, class_weight={0: 3.0, 2: 0.5}, shuffle=False, verbose=0, **options)
        return model.get_weights()

    expected = trained(X, LABELS, batch_size=SIZE)
    for kind in KINDS:
        assert same_bits(trained(source(kind, X, LABELS)), expected)


def test_types_of_batches() -> None:
    """Each batch is converted as arrays are."""
    expected = regressor().predict(X.astype("float64"))
    lists = ([row.tolist() for row in part] for (part,) in batches(X.astype("float64")))
    np.testing.assert_allclose(regressor().predict(lists), expected, rtol=1e-6)
    pixels = Dataset.from_tensor_slices((X * 100).astype("uint8")).batch(50)
    np.testing.assert_array_equal(
        regressor().predict(pixels), regressor().predict((X * 100).astype("uint8"))
    )


def test_batches_of_many_sizes() -> None:
    sizes = [1, 7, 3, 20, 2, 4, 5, 6, 8, 9, 10, 11, 12, 7, 1]
    model = regressor()
    model.fit(((X[:size], Y[:size]) for size in sizes), verbose=0)
    again = regressor()
    for size in sizes:
        again.train_on_batch(X[:size], Y[:size])
    assert same_bits(model.get_weights(), again.get_weights())
    assert len(model._plans) <= 8


def test_a_model_is_built_by_its_first_batch() -> None:
    model = Sequential([Dense(2)])
    model.compile("sgd", "mse")
    model.fit(batches(X, Y), verbose=0)
    assert model.input_shape == (None, 6)


def test_lists_of_one_array() -> None:
    expected = regressor().fit(X, Y, verbose=0, shuffle=False).history
    assert regressor().fit([X], [Y], verbose=0, shuffle=False).history == expected
    fresh = Sequential([Dense(2)])
    assert fresh.predict([X]).shape == (50, 2)
    assert fresh.predict([X[0]]).shape == (1, 2)  # a list of samples
    images = Sequential([Input((5, 6)), Dense(2)])
    assert images.predict([X[:5]]).shape == (1, 5, 2)
    assert images.predict([X.reshape(10, 5, 6)]).shape == (10, 5, 2)


# ---- epochs


def steps_of(log: list[str], *data: Any, **options: Any) -> str:
    """Fit, and return E for the begin of each epoch, e for its end, t and v for batches."""

    class Watch(callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            log.append("E")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            log.append("e")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            log.append("t")

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            log.append("v")

    regressor().fit(*data, verbose=0, callbacks=[Watch()], **options)
    return "".join(log)


RAN_OUT = r"Your input ran out of data; interrupting training\. Make sure.*`\.repeat\(\)`"


@pytest.mark.parametrize("kind", ["dataset", "sequence", "loader", "prefetched"])
def test_steps_per_epoch(kind: str) -> None:
    assert steps_of([], source(kind, X, Y), epochs=2) == "EtttteEtttte"
    assert steps_of([], source(kind, X, Y), epochs=3, steps_per_epoch=2) == "EtteEtteEtte"
    with pytest.warns(UserWarning, match=RAN_OUT):
        assert steps_of([], source(kind, X, Y), epochs=3, steps_per_epoch=3) == "EttteEteEttte"


def test_generators_end() -> None:
    assert steps_of([], source("generator", X, Y)) == "Etttte"
    with pytest.warns(UserWarning, match=RAN_OUT) as caught:
        assert steps_of([], source("generator", X, Y), epochs=3) == "Etttte"
    with pytest.warns(UserWarning, match=RAN_OUT) as again:
        assert steps_of([], source("generator", X, Y), epochs=3, steps_per_epoch=3) == "EttteEte"
    assert len(caught) == len(again) == 1
    with pytest.warns(UserWarning, match=RAN_OUT):
        assert steps_of([], source("generator", X, Y), epochs=3, steps_per_epoch=4) == "EtttteE"


def test_data_sets_without_end() -> None:
    data = Dataset.from_tensor_slices((X, Y)).repeat().batch(SIZE)
    assert steps_of([], data, epochs=2, steps_per_epoch=5) == "EttttteEttttte"
    with pytest.raises(ValueError, match=r"`steps_per_epoch` must be given where `x` has no end"):
        regressor().fit(data)
    with pytest.raises(ValueError, match=r"`validation_steps` must be given where `validation_x`"):
        regressor().fit(X, Y, validation_data=data)
    with pytest.raises(ValueError, match=r"`steps` must be given where `x` has no end"):
        regressor().predict(data)


def test_validation_frequency() -> None:
    options: dict[str, Any] = {"batch_size": 50, "epochs": 4, "validation_data": (X, Y)}
    assert steps_of([], X, Y, validation_freq=2, **options) == "EteEtveEteEtve"
    assert steps_of([], X, Y, validation_freq=[1, 4], **options) == "EtveEteEteEtve"
    history = regressor().fit(X, Y, verbose=0, validation_freq=3, **options).history
    assert (len(history["loss"]), len(history["val_loss"])) == (4, 1)


def test_validation_steps_and_sizes() -> None:
    options: dict[str, Any] = {"batch_size": 50, "epochs": 2, "validation_data": (X, Y)}
    assert steps_of([], X, Y, validation_batch_size=20, **options) == "EtvvveEtvvve"
    assert (
        steps_of([], X, Y, validation_batch_size=20, validation_steps=2, **options) == "EtvveEtvve"
    )


def test_validation_on_a_generator_goes_on() -> None:
    options: dict[str, Any] = {"batch_size": 50, "epochs": 3}
    with pytest.warns(UserWarning, match=RAN_OUT):
        log = steps_of([], X, Y, validation_data=batches(X, Y), validation_steps=3, **options)
    assert log == "EtvvveEtveEte"
    with pytest.raises(
        ValueError, match="`validation_steps` must be given where `validation_data`"
    ):
        regressor().fit(X, Y, validation_data=batches(X, Y), epochs=2, verbose=0)
    regressor().fit(X, Y, validation_data=batches(X, Y), epochs=1, verbose=0)


def test_sequences_are_shuffled_and_told() -> None:
    utils.set_random_seed(0)
    data = ByNumber(X, Y)
    model = regressor()
    model.fit(data, epochs=8, verbose=0)
    orders = np.reshape(data.asked, (8, 4))
    assert (np.sort(orders, axis=1) == np.arange(4)).all()
    assert len({tuple(order) for order in orders}) > 2
    assert data.told == ["begin", "end"] * 8
    data.asked.clear()
    model.fit(data, shuffle=False, verbose=0)
    model.evaluate(data)
    assert data.asked == [0, 1, 2, 3] * 2


def test_shuffled_batches_of_neighbours() -> None:
    seen: list[list[int]] = []

    class Spy(Sequential):
        def _train_step(self, x: np.ndarray, y: np.ndarray) -> float:
            seen.append(y[:, 0].astype(int).tolist())
            return super()._train_step(x, y)

    utils.set_random_seed(0)
    model = Spy([Input((1,)), Dense(1)])
    model.compile("sgd", "mse")
    rows = np.arange(14, dtype="float32")[:, None] / 14
    model.fit(rows, np.arange(14.0)[:, None], batch_size=2, shuffle="batch", epochs=2, verbose=0)
    assert len({tuple(batch) for batch in seen}) == 7
    assert [batch[0] for batch in seen[:7]] != [batch[0] for batch in seen[7:]]
    seen.clear()
    model.fit(rows, np.arange(14.0)[:, None], batch_size=4, shuffle="batch", verbose=0)
    assert seen[3] == [12, 13]


def test_progress_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    known: list[Any] = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: known.append(watch.params["steps"])
    )
    regressor().fit(Loader(X, Y), epochs=2, verbose=1, callbacks=[watch])
    assert known == [4, 4]
    assert "4batch" in capsys.readouterr().err


# ---- refused


def test_arguments_that_belong_to_arrays() -> None:
    model = regressor()
    data = Dataset.from_tensor_slices((X, Y)).batch(SIZE)
    for options, message in (
        ({"y": Y}, r"`y` must not be given where `x` is a Dataset.*Received: y=ndarray"),
        ({"sample_weight": WEIGHTS}, "`sample_weight` must not be given where `x` is a Dataset"),
        ({"batch_size": 3}, r"`batch_size` must not be given where `x` is a Dataset.*=3"),
        ({"validation_split": 0.2}, r"`validation_split` must be 0 where `x` is no array.*0\.2"),
        ({"validation_freq": 0}, "`validation_freq` must be at least 1"),
        ({"validation_freq": [0]}, "`validation_freq` must be at least 1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be at least 1"),
        ({"validation_data": (X, Y), "validation_steps": 0}, "`validation_steps` must be at le"),
        ({"shuffle": "all"}, r"`shuffle` must be True, False or 'batch'\. Received: shuffle='all'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(data, verbose=0, **options)
    with pytest.raises(ValueError, match="`batch_size` must not be given where `x` is a generator"):
        model.predict(batches(X), batch_size=3)
    with pytest.raises(ValueError, match=r"`y` must be given where `x` is an array"):
        model.fit(X)
    with pytest.raises(ValueError, match=r"`validation_y` must be given where `validation_x`"):
        model.fit(X, Y, validation_data=(X, None))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (iter([(X, Y), (X,)]), ValueError, r"Batch 2 of `x` must be \(x, y\).*no targets"),
        (iter([(X, None)]), ValueError, r"Batch 1 of `x` must be \(x, y\).*no targets"),
        (iter([(X, Y, WEIGHTS, Y)]), ValueError, r"Batch 1 of `x`.*Received: 4 parts"),
        (iter([{"x": X}]), TypeError, r"Batch 1 of `x`.*Received: a dictionary"),
        (iter([(X[:, :3], Y)]), ValueError, r"`x of batch 1` must have shape \(None, 6\).*\(50, 3"),
        (iter([(X, Y[:9])]), ValueError, r"`y of batch 1` must hold as many samples.*9 samples"),
        (iter([(X, Y, -WEIGHTS)]), ValueError, "`sample_weight of batch 1` must hold finite"),
        (iter([(X[:0], Y[:0])]), ValueError, "Batch 1 of `x` must hold a sample"),
        (iter([(X, np.array(["a"] * 50))]), TypeError, "`y of batch 1` must be an array of real"),
        (iter([]), ValueError, r"`x` must hold at least one batch\. Received: none"),
        (Loader(X[:0], Y[:0]), ValueError, "must hold a sample"),
        (Dataset.from_tensor_slices((X[:0], Y[:0])).batch(4), ValueError, "at least one batch"),
        (Dataset.from_tensor_slices((X, Y)), ValueError, r"must be a Dataset of batches: call its"),
    ],
)
def test_batches_that_do_not_fit(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        regressor().fit(data, verbose=0)


def test_names_of_validation_batches() -> None:
    with pytest.raises(ValueError, match=r"`validation_x of batch 1` must have shape"):
        regressor().fit(X, Y, validation_data=iter([(X[:, :2], Y)]), verbose=0)
    with pytest.raises(ValueError, match=r"`validation_y of batch 1` must hold as many"):
        regressor().fit(X, Y, validation_data=iter([(X, Y[:2])]), verbose=0)


def test_loss_that_is_not_finite_in_data_of_unknown_length() -> None:
    bad = np.full_like(X, np.nan)
    with pytest.raises(FloatingPointError, match=r"The loss is nan in epoch 1/1, batch 2\. The"):
        regressor().fit(iter([(X, Y), (bad, Y)]), verbose=0)
