"""Files that real Keras reads, and files of real Keras: predictions, and training that goes on."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import layers, models, optimizers, saving

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="reads and writes the files")
h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5 files")

pytestmark = [
    # Keras' own tensors do not know NumPy 2's `copy` yet.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
    # The spelling that Keras 2 reads, too.
    pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated"),
]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 8, 7, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 48)
SETTINGS: dict[str, Any] = {"batch_size": 8, "shuffle": False, "verbose": 0}
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"use_ema": True, "ema_overwrite_frequency": 5}),
    ("AdamW", {"weight_decay": 0.01}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Adam", {"gradient_accumulation_steps": 4}),  # of 6 batches: in the middle of a step
    ("SGD", {"momentum": 0.5, "loss_scale_factor": 8.0}),
    ("RMSprop", {"decay": 0.1}),  # which Keras gets as a schedule
]

#: The program in the documentation of `save_model`: Keras restores no optimizer of `.h5` files.
HOW_TO_GO_ON = textwrap.dedent(
    str(re.findall(r"after ::\n\n(.*?)\n\n", saving.save_model.__doc__ or "", re.DOTALL)[0])
)


def architecture(library: Any, dropout: float) -> list[Any]:
    return [
        library.Rescaling(0.5),
        library.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer="l2"),
        library.BatchNormalization(momentum=0.9),
        library.LeakyReLU(negative_slope=0.1),
        library.MaxPooling2D(),
        library.Dropout(dropout),
        library.Flatten(),
        library.Dense(6, activation="gelu", kernel_constraint="max_norm"),
        library.PReLU(),
        library.GaussianNoise(0.0),
        library.Dense(3, activation="softmax"),
    ]


def compiled(sequential: Any, library: Any, optimizer: Any, dropout: float = 0.0) -> Any:
    model = sequential([library.Input((8, 7, 2)), *architecture(library, dropout)])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, **SETTINGS)
    return model


def go_on(ours: Any, theirs: Any) -> None:
    """The same predictions, and after the same further training still the same."""
    for _ in range(2):
        np.testing.assert_allclose(
            ours.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-5, atol=1e-5
        )
        own, their = (model.fit(X, Y, **SETTINGS).history["loss"] for model in (ours, theirs))
        np.testing.assert_allclose(own, their, rtol=1e-5)
    assert ours.optimizer.iterations == int(np.asarray(theirs.optimizer.iterations))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_keras_goes_on_with_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], ending: str
) -> None:
    if ending == ".h5" and "use_ema" in options:
        pytest.skip("Keras on JAX cannot set the states of such an optimizer")
    ours = compiled(models.Sequential, layers, getattr(optimizers, name)(0.005, **options))
    monkeypatch.chdir(tmp_path)
    ours.save(f"model{ending}")
    if ending == ".h5":
        known = {"keras": keras, "h5py": h5py}
        exec(HOW_TO_GO_ON, known)
        theirs = known["model"]
    else:
        theirs = keras.models.load_model("model.keras")
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=1e-6)
    go_on(ours, theirs)


OF_KERAS = [case for case in OPTIMIZERS if not {"use_ema", "decay"} & set(case[1])]


# Keras on JAX cannot train on after `ema_overwrite_frequency` moved weights, whose memory is gone.
@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "options"), OF_KERAS)
def test_ours_goes_on_with_keras(
    tmp_path: Path, name: str, options: dict[str, Any], ending: str
) -> None:
    keras.utils.set_random_seed(1)
    optimizer = getattr(keras.optimizers, name)(0.005, **options)
    theirs = compiled(keras.Sequential, keras.layers, optimizer)
    theirs.save(tmp_path / f"k{ending}")
    ours = models.load_model(tmp_path / f"k{ending}")
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=1e-6)
    assert ours.optimizer.variables[0].numpy() == 6
    assert ours.metrics_names == ["loss", "accuracy"]
    go_on(ours, theirs)


def test_other_files(tmp_path: Path) -> None:
    ours = compiled(models.Sequential, layers, "adam", dropout=0.3)
    expected = ours.predict(X, verbose=0)
    ours.save(tmp_path / "m.h5")
    theirs = keras.models.load_model(tmp_path / "m.h5")
    np.testing.assert_allclose(theirs.predict(X, verbose=0), expected, atol=1e-6)
    ours.save_weights(tmp_path / "w.weights.h5")
    fresh = keras.models.model_from_json(ours.to_json())
    fresh.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_allclose(fresh.predict(X, verbose=0), expected, atol=1e-6)
    theirs.save(tmp_path / "k.h5")
    theirs.save_weights(tmp_path / "k.weights.h5")
    again = models.load_model(tmp_path / "k.h5")
    np.testing.assert_allclose(again.predict(X, verbose=0), expected, atol=1e-6)
    clone = models.model_from_json(theirs.to_json())
    clone.load_weights(tmp_path / "k.weights.h5")
    np.testing.assert_allclose(clone.predict(X, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_keras_opens_files_with_options_that_it_does_not_have(tmp_path: Path, ending: str) -> None:
    optimizer = optimizers.Adam(0.005, skip_nonfinite=True)
    ours = compiled(models.Sequential, layers, optimizer)
    ours.save(tmp_path / f"m{ending}")
    assert models.load_model(tmp_path / f"m{ending}").optimizer.skip_nonfinite
    theirs = keras.models.load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=1e-6)
    if ending == ".keras":
        go_on(ours, theirs)


def test_the_weight_of_the_loss_is_kept(tmp_path: Path) -> None:
    ours = compiled(models.Sequential, layers, "sgd")
    loss = "sparse_categorical_crossentropy"
    ours.compile("sgd", loss, loss_weights=0.25)
    ours.save(tmp_path / "m.keras")
    theirs = keras.models.load_model(tmp_path / "m.keras")
    go_on(ours, theirs)
    theirs.compile("sgd", [loss], loss_weights=[0.5])
    theirs.optimizer.build(theirs.trainable_variables)
    theirs.save(tmp_path / "k.keras")
    go_on(models.load_model(tmp_path / "k.keras"), theirs)


def test_keras_restores_no_optimizer_of_its_own(tmp_path: Path) -> None:
    """Why a program is needed: where this fails, Keras' name can be written for the states."""
    theirs = compiled(keras.Sequential, keras.layers, keras.optimizers.Adam(0.005))
    theirs.save(tmp_path / "k.h5")
    again = keras.models.load_model(tmp_path / "k.h5")
    assert len(again.optimizer.variables) == 2  # the number of steps, and the rate
    with pytest.raises(ValueError, match=r"Unknown variable|built with 0 variables"):
        again.fit(X, Y, **SETTINGS)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_of_one_cycle_keras_gets_the_next_rate(tmp_path: Path, ending: str) -> None:
    cycle = optimizers.schedules.OneCycle(0.01, 20)
    ours = compiled(models.Sequential, layers, optimizers.SGD(cycle, momentum=0.9))
    ours.save(tmp_path / f"m{ending}")
    theirs = keras.models.load_model(tmp_path / f"m{ending}")
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=1e-6)
    theirs.fit(X, Y, **SETTINGS)
    assert float(theirs.optimizer.learning_rate.value) == pytest.approx(cycle(6))
    again = models.load_model(tmp_path / f"m{ending}")
    assert again.optimizer.get_config() == ours.optimizer.get_config()


def test_a_schedule_is_kept(tmp_path: Path) -> None:
    schedule = optimizers.schedules.CosineDecay(0.01, 100)
    ours = compiled(models.Sequential, layers, optimizers.Adam(schedule))
    ours.save(tmp_path / "m.keras")
    theirs = keras.models.load_model(tmp_path / "m.keras")
    go_on(ours, theirs)
    theirs.save(tmp_path / "k.keras")
    assert (
        models.load_model(tmp_path / "k.keras").optimizer.get_config()["learning_rate"]
        == (ours.optimizer.get_config()["learning_rate"])
    )
