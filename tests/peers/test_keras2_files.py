"""Files that real Keras 2 reads, and files of real Keras 2: `nox -s keras2`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras2_files
import numpy as np
import pytest
from keras2_files import SETTINGS, X, Y

from fusednn import layers, models, optimizers
from fusednn.models import Sequential

tensorflow = pytest.importorskip("tensorflow", reason="brings Keras 2")
if [int(part) for part in tensorflow.__version__.split(".")[:2]] > [2, 15]:
    pytest.skip("this TensorFlow brings Keras 3", allow_module_level=True)
keras = tensorflow.keras

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow of 2023 has many


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("name", keras2_files.OPTIMIZERS)
def test_ours_goes_on_with_keras(tmp_path: Path, name: str, ending: str) -> None:
    if ending == ".keras" and name.startswith("older"):
        pytest.skip("Keras does not write the states of these to such files")
    path = tmp_path / f"{name}{ending}"
    keras2_files.check(path, keras2_files.write(path, name))


PLAIN = ["SGD", "Adagrad", "RMSprop", "Adam", "Adamax", "Nadam"]


def trained(optimizer: Any) -> Sequential:
    model = Sequential(keras2_files.architecture(layers))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, **SETTINGS)
    return model


@pytest.mark.parametrize("clipping", [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}])
@pytest.mark.parametrize("name", PLAIN)
def test_keras_reads_ours(tmp_path: Path, name: str, clipping: dict[str, float]) -> None:
    ours = trained(getattr(optimizers, name)(0.005, **clipping))
    ours.save(tmp_path / "m.h5")
    theirs = keras.models.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(theirs.predict(X, verbose=0), ours.predict(X, verbose=0), atol=1e-6)
    assert type(theirs.optimizer).__name__ == name
    # Its states start anew, as where ours is compiled again.
    ours.compile(getattr(optimizers, name)(0.005, **clipping), ours.loss, metrics=["accuracy"])
    own, their = (m.fit(X, Y, **SETTINGS, epochs=3).history for m in (ours, theirs))
    if name not in ("RMSprop", "Nadam"):  # whose older kinds are other formulas
        np.testing.assert_allclose(own["loss"], their["loss"], rtol=1e-5)
        np.testing.assert_allclose(own["accuracy"], their["accuracy"], atol=1e-6)


def test_layers(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 9, 9, 2)).astype(np.float32)
    adapted = layers.Normalization()
    adapted.adapt(x)
    inner = Sequential([layers.Input((8,)), layers.Dense(5), layers.BatchNormalization()])
    ours = models.Sequential(
        [
            layers.Input((9, 9, 2)),
            adapted,
            layers.Rescaling(0.5, offset=0.1),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.AveragePooling2D(padding="same"),
            *(layers.GaussianNoise(0.1), layers.GaussianDropout(0.1), layers.AlphaDropout(0.1)),
            layers.ActivityRegularization(l2=0.01),
            *(layers.Flatten(), layers.Reshape((4, 4)), layers.Flatten()),
            layers.Dense(8, activation=layers.LeakyReLU(0.3), bias_constraint="non_neg"),
            *(layers.ELU(0.9), layers.ReLU(negative_slope=0.1), layers.Activation("swish")),
            inner,
            *(layers.Dense(3, kernel_regularizer="l1_l2"), layers.Softmax()),
        ]
    )
    ours.compile("sgd", "mse")
    ours.save(tmp_path / "m.h5")
    theirs = keras.models.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(theirs.predict(x, verbose=0), ours.predict(x, verbose=0), atol=1e-6)
    assert theirs.count_params() == ours.count_params()


@pytest.mark.parametrize(
    "optimizer",
    [optimizers.Adam(weight_decay=0.1), optimizers.Adam(use_ema=True), optimizers.AdamW()],
    ids=["decay", "average", "adamw"],
)
def test_what_its_older_optimizers_lack(tmp_path: Path, optimizer: Any) -> None:
    ours = trained(optimizer)
    ours.save(tmp_path / "m.h5")
    with pytest.raises((TypeError, ValueError), match=r"weight_decay|use_ema|AdamW"):
        keras.models.load_model(tmp_path / "m.h5")
    theirs = keras.models.load_model(tmp_path / "m.h5", compile=False)
    np.testing.assert_allclose(theirs.predict(X, verbose=0), ours.predict(X, verbose=0), atol=1e-6)
