"""Files that Keras 2.15 wrote, with what it computes from them: ``python keras2_files.py``.

TensorFlow 2.15, which has that Keras, needs Python 3.11 or older and NumPy 1.26: `nox -s keras2`
installs it and runs `test_keras2_files.py`, ``nox -s keras2 -- --record`` records anew what
`tests/test_files_of_keras2.py` reads in every run of the tests.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "keras2"
RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
SETTINGS: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0}

#: Optimizers by name, two kinds of them, and their options. The older Nadam is another formula.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {"momentum": 0.5, "centered": True}),
    "adam": ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    "average": ("Adam", {"use_ema": True, "ema_momentum": 0.9}),
    "adamw": ("AdamW", {"weight_decay": 0.1}),
    "adamax": ("Adamax", {"global_clipnorm": 0.1}),
    "nadam": ("Nadam", {}),
    "older_momentum": ("legacy.SGD", {"momentum": 0.9, "decay": 0.1}),
    "older_rmsprop": ("legacy.RMSprop", {"momentum": 0.5, "centered": True}),
    "older_adam": ("legacy.Adam", {"amsgrad": True}),
    "older_adamax": ("legacy.Adamax", {}),
}


def architecture(library: Any) -> list[Any]:
    return [
        library.Input((6,)),
        library.Dense(5, use_bias=False, kernel_regularizer="l2"),
        library.BatchNormalization(momentum=0.9),
        library.LeakyReLU(0.1),
        library.Dense(4, activation="gelu", kernel_constraint="max_norm"),
        library.PReLU(),
        library.Dropout(0.0),
        library.Dense(3, activation="softmax"),
    ]


def write(path: Path, name: str) -> dict[str, Any]:
    """Train a model with real Keras 2, write it, and return what it does from there on."""
    from tensorflow import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential(architecture(keras.layers))
    made: Any = keras.optimizers
    class_name, options = OPTIMIZERS[name]
    for part in class_name.split("."):
        made = getattr(made, part)
    # Compiled, Keras 2's Nadam multiplies its product once for each variable.
    own = {"metrics": ["accuracy"], "run_eagerly": name == "nadam"}
    model.compile(made(0.005, **options), "sparse_categorical_crossentropy", **own)
    model.fit(X, Y, **SETTINGS)
    model.save(path)
    before = model.predict(X, verbose=0)
    losses = model.fit(X, Y, epochs=3, **SETTINGS).history["loss"]
    return {"before": before, "losses": losses, "after": model.predict(X, verbose=0)}


def check(path: Path, expected: Any) -> None:
    """Read a file of Keras 2: the same predictions, and the same training from there on."""
    from fusednn.models import load_model

    model = load_model(path)
    assert model.optimizer.iterations == 3
    assert model.metrics_names == ["loss", "accuracy"]
    np.testing.assert_allclose(model.predict(X, verbose=0), expected["before"], atol=1e-6)
    losses = model.fit(X, Y, epochs=3, **SETTINGS).history["loss"]
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected["after"], atol=1e-5)


def record() -> None:
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        for name in OPTIMIZERS:
            path = Path(folder) / f"{name}.h5"
            expected = write(path, name)
            with h5py.File(path, "a") as file:
                for key, values in expected.items():
                    file.create_dataset(f"expected/{key}", data=values)
            packed = FOLDER / f"{name}.h5.gz"
            packed.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


if __name__ == "__main__":
    record()
