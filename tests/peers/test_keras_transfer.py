"""What transfer learning needs of real Keras: its files, and who trains what."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fusednn import layers, models, optimizers

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="reads and writes the files")

pytestmark = [
    # Keras' own tensors do not know NumPy 2's `copy` yet.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((97, 7)).astype(np.float32)
Y = RNG.integers(0, 3, 97)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_keras_reads_models_with_rates_by_layer(tmp_path: Path, ending: str) -> None:
    model = models.Sequential(
        [layers.Input((7,)), layers.Dense(5, "tanh"), layers.Dense(3, "softmax")]
    )
    model.layers[0].learning_rate_multiplier = 0.1
    model.compile(optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / f"model{ending}")
    theirs = keras.models.load_model(tmp_path / f"model{ending}")
    np.testing.assert_allclose(
        theirs.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )
    config = keras.models.model_from_json(model.to_json()).get_config()
    assert [entry["class_name"] for entry in config["layers"]] == ["InputLayer", "Dense", "Dense"]
