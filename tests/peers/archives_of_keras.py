"""``.keras`` files of several releases of Keras, and what that computes from them.

``python archives_of_keras.py`` in an environment with a release records its files, which
`tests/test_keras_archives.py` reads in every run of the tests. What is trained on which data, and
what has to follow, is that of `keras2_files`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras2_files as files
import numpy as np

FOLDER = Path(__file__).parents[1] / "keras_archives"
NAMES = ("momentum", "adam")


def record() -> None:
    import keras

    keras.utils.set_random_seed(1)
    for name in NAMES:
        layers = files.architecture(keras.layers)
        layers[1].kernel_regularizer = None  # Keras 3.0 counts penalties twice on JAX
        model = keras.Sequential(layers)
        class_name, options = files.OPTIMIZERS[name]
        optimizer: Any = getattr(keras.optimizers, class_name)(0.005, **options)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(files.X, files.Y, **files.SETTINGS)
        path = FOLDER / f"{name}-{keras.__version__}.keras"
        model.save(path)
        before = model.predict(files.X, verbose=0)
        losses = model.fit(files.X, files.Y, epochs=3, **files.SETTINGS).history["loss"]
        after = model.predict(files.X, verbose=0)
        np.savez(path.with_suffix(".npz"), before=before, losses=losses, after=after)


if __name__ == "__main__":
    record()
