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


def nested(library, sequential):
    body = sequential(
        [
            library.Input((7,)),
            library.Dense(9, use_bias=False),
            library.BatchNormalization(momentum=0.9),
            library.LeakyReLU(negative_slope=0.1),
        ],
        name="body",
    )
    inner = sequential([library.Dense(6, activation="tanh"), library.BatchNormalization()])
    head = sequential([inner, library.Dense(3, activation="softmax")], name="head")
    return sequential([library.Input((7,)), body, head], name="outer")


CASES = [(".keras", False), (".h5", False), (".h5", True)]


def compiled(model, optimizer):
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model


def assert_equal_predictions(ours, theirs):
    want = theirs.predict(X, verbose=0)
    np.testing.assert_allclose(ours.predict(X, verbose=0), want, rtol=1e-5, atol=1e-6)


def goes_on_equally(ours, theirs):
    for model in (ours, theirs):
        model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert_equal_predictions(ours, theirs)


@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated")  # Keras 2 knows no other
@pytest.mark.parametrize(("ending", "frozen"), CASES)
def test_keras_reads_nested_models(tmp_path: Path, ending: str, frozen: bool) -> None:
    ours = nested(layers, models.Sequential)
    ours.layers[0].layers[0].trainable = not frozen
    compiled(ours, optimizers.Adam(0.01))
    ours.save(tmp_path / f"model{ending}")
    theirs = keras.models.load_model(tmp_path / f"model{ending}")
    assert [type(layer).__name__ for layer in theirs.layers] == ["Sequential"] * 2
    assert_equal_predictions(ours, theirs)
    if ending == ".keras":
        goes_on_equally(ours, theirs)
    weights = tmp_path / "our.weights.h5"
    ours.save_weights(weights)
    again = nested(keras.layers, keras.Sequential)
    again.load_weights(weights)
    assert_equal_predictions(ours, again)


@pytest.mark.parametrize(("ending", "frozen"), CASES)
def test_nested_models_of_keras(tmp_path: Path, ending: str, frozen: bool) -> None:
    theirs = nested(keras.layers, keras.Sequential)
    theirs.layers[0].layers[0].trainable = not frozen
    compiled(theirs, keras.optimizers.Adam(0.01))
    theirs.save(tmp_path / f"model{ending}")
    ours = models.load_model(tmp_path / f"model{ending}")
    assert [type(layer).__name__ for layer in ours.layers] == ["Sequential"] * 2
    assert ours.layers[0].layers[0].trainable is not frozen
    assert_equal_predictions(ours, theirs)
    if ending == ".keras":
        goes_on_equally(ours, theirs)
    weights = tmp_path / "their.weights.h5"
    theirs.save_weights(weights)
    again = nested(layers, models.Sequential)
    again.load_weights(weights)
    assert_equal_predictions(again, theirs)


def test_nested_models_have_keras_summary_counts_and_weights() -> None:
    ours, theirs = nested(layers, models.Sequential), nested(keras.layers, keras.Sequential)
    ours.layers[1].trainable = theirs.layers[1].trainable = False
    for name in ("weights", "trainable_weights", "non_trainable_weights"):
        mine, its = getattr(ours, name), getattr(theirs, name)
        assert [v.shape for v in mine] == [tuple(v.shape) for v in its]
    assert ours.count_params() == theirs.count_params()


def test_alternate_training_follows_keras() -> None:
    """The steps of a small GAN: who is frozen when which model was compiled, and is set anew."""

    def build(library, sequential, optimizer):
        generator = sequential(
            [library.Input((5,)), library.Dense(8, activation="tanh"), library.Dense(7)]
        )
        discriminator = sequential(
            [
                library.Input((7,)),
                library.Dense(6, activation="tanh"),
                library.Dense(1, activation="sigmoid"),
            ]
        )
        discriminator.compile(optimizer(0.1), "binary_crossentropy")
        discriminator.trainable = False
        gan = sequential([library.Input((5,)), generator, discriminator])
        gan.compile(optimizer(0.1), "binary_crossentropy")
        return generator, discriminator, gan

    ours = build(layers, models.Sequential, optimizers.SGD)
    theirs = build(keras.layers, keras.Sequential, keras.optimizers.SGD)
    ours[2].set_weights([np.asarray(w) for w in theirs[2].get_weights()])
    for step in range(5):
        codes = np.random.default_rng(step).standard_normal((16, 5)).astype(np.float32)
        for generator, discriminator, gan in (ours, theirs):
            made = np.asarray(generator.predict(codes, verbose=0))
            labels = np.repeat([0.0, 1.0], 16)[:, np.newaxis].astype(np.float32)
            discriminator.trainable = True
            discriminator.train_on_batch(np.concatenate([made, X[:16]]), labels)
            discriminator.trainable = False
            gan.train_on_batch(codes, np.ones((16, 1), np.float32))
        for mine, its in zip(ours[2].get_weights(), theirs[2].get_weights(), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)
