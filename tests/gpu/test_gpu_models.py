"""Models under `fusednn.device("cuda")`: the CPU's training, with CuPy, cuBLAS and CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest
from devices import STANDS_IN

import fusednn
from fusednn import optimizers, utils
from fusednn.layers import BatchNormalization, Dense, Dropout, Input, LeakyReLU
from fusednn.models import Sequential

pytestmark = pytest.mark.short

ROWS, FEATURES, CLASSES = 1000 if not STANDS_IN else 60, 64, 10


@pytest.fixture(params=["float32", "float64"])
def dtype(request) -> str:
    return request.param


def data(rng) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(ROWS, FEATURES))
    return x, (x @ rng.normal(size=(FEATURES, CLASSES))).argmax(axis=1)


def trained(x: np.ndarray, y: np.ndarray, dtype: str) -> tuple[Sequential, list[float]]:
    utils.set_random_seed(3)
    model = Sequential([Input((FEATURES,))])
    for units in (100, 97):
        model.add(Dense(units, dtype=dtype))
        model.add(BatchNormalization(momentum=0.9, dtype=dtype))
        model.add(LeakyReLU(0.1, dtype=dtype))
    model.add(Dropout(0.1, dtype=dtype))
    model.add(Dense(CLASSES, activation="softmax", dtype=dtype))
    optimizer = optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=3, batch_size=ROWS // 8, verbose=0)
    return model, history.history["loss"]


def test_training_is_the_cpus(gpu, rng, dtype):
    x, y = data(rng)
    ours, our_losses = trained(x, y, dtype)
    outputs = ours.predict(x, verbose=0)
    assert ours.layers[0].kernel.device is gpu
    plan = ours._plan(ROWS // 8, training=True)
    assert plan._give_forward.is_captured
    assert plan._give_update.is_captured
    with fusednn.device("cpu"):
        theirs, their_losses = trained(x, y, dtype)
        expected = theirs.predict(x, verbose=0)
    tolerance = 1e-3 if dtype == "float32" else 1e-6
    np.testing.assert_allclose(our_losses, their_losses, rtol=tolerance)
    np.testing.assert_allclose(outputs, expected, atol=tolerance)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def test_runs_are_the_same_bits(gpu, rng):
    x, y = data(rng)
    first, second = (trained(x, y, "float32")[0].get_weights() for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [1, 7, 130])
@pytest.mark.parametrize("columns", [1, 97])
def test_products(gpu, rng, dtype, rows, columns):
    """cuBLAS reads matrices as they lie, and transposed."""
    inner = 33
    a, b = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
    a, b = a.astype(dtype), b.astype(dtype)
    for turn_a in (False, True):
        for turn_b in (False, True):
            ours = [
                gpu.array(np.ascontiguousarray(m.T)).T if turn else gpu.array(m)
                for m, turn in ((a, turn_a), (b, turn_b))
            ]
            out = gpu.full((rows, columns), np.nan, dtype)
            with gpu.working():
                gpu.matmul(*ours, out)
            tolerance = 1e-4 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(gpu.read(out), a @ b, atol=tolerance)
