"""Files of models: round trips, training that goes on, atomic saving, spellings of Keras 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import initializers, layers, losses, metrics, models, optimizers, saving, utils
from fusednn.activations import Elementwise
from fusednn.models import Sequential, load_model, model_from_json
from fusednn.optimizers import schedules
from trained_model import X, Y, trained

h5py = pytest.importorskip("h5py", reason="Keras' files are HDF5 files")


def assert_same(ours: Sequential, theirs: Sequential) -> None:
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ours.predict(X, verbose=0), theirs.predict(X, verbose=0))
    assert [layer.get_config() for layer in ours.layers] == [
        layer.get_config() for layer in theirs.layers
    ]


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adam", {"amsgrad": True, "use_ema": True}),
    ("AdamW", {"weight_decay": 0.01, "global_clipnorm": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Adam", {"learning_rate": schedules.ExponentialDecay(0.01, 10, 0.5)}),
    ("Adam", {"learning_rate": schedules.OneCycle(0.01, 20)}),
    ("SGD", {"learning_rate": schedules.OneCycle(0.01, 20)}),
    ("SGD", {"decay": 0.1}),
    ("Nadam", {"learning_rate": 0.01, "decay": 0.1, "use_ema": True}),
    ("SGD", {"learning_rate": schedules.OneCycle(0.01, 20), "decay": 0.1}),
    ("AdamW", {"gradient_accumulation_steps": 3, "use_ema": True}),  # of 4 batches so far
    ("RMSprop", {"skip_nonfinite": True, "loss_scale_factor": 2.0}),
]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_training_goes_on_where_it_was(
    tmp_path: Path, name: str, options: dict[str, Any], ending: str
) -> None:
    model = trained(getattr(optimizers, name)(**options))
    model.save(tmp_path / f"m{ending}")
    again = load_model(tmp_path / f"m{ending}")
    assert_same(model, again)
    assert again.name == "net"
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for continued in (model, again):
        utils.set_random_seed(2)
        continued.fit(X, Y, epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.evaluate(X, Y, verbose=0) == again.evaluate(X, Y, verbose=0)


def test_old_format_and_no_optimizer(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "m.h5")
    again = load_model(tmp_path / "m.h5")
    assert_same(model, again)
    assert again.compiled
    assert not load_model(tmp_path / "m.h5", compile=False).compiled
    model.save(tmp_path / "m.keras", include_optimizer=False)
    assert not load_model(tmp_path / "m.keras").compiled


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5"])
def test_weights_alone(tmp_path: Path, name: str) -> None:
    model = trained()
    model.save_weights(tmp_path / name)
    other = models.clone_model(model)
    other.load_weights(tmp_path / name)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    before = Sequential([layers.Input((6,)), layers.Dense(7)])
    start = before.get_weights()
    with pytest.raises(ValueError, match=r"The file must hold"):
        before.load_weights(tmp_path / name)
    for a, b in zip(start, before.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "whole.keras")
    other = models.clone_model(model)
    other.load_weights(tmp_path / "whole.keras")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])


def test_losses_and_metrics_with_options(tmp_path: Path) -> None:
    model = Sequential([layers.Input((6,)), layers.Dense(1)])
    model.compile(
        "sgd", losses.Huber(0.5), metrics=["mae"], weighted_metrics=[metrics.MeanSquaredError()]
    )
    model.save(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    assert again.loss.delta == 0.5
    assert again.metrics_names == model.metrics_names == ["loss", "mae", "mean_squared_error"]


def test_json_and_configurations() -> None:
    model = trained()
    again = model_from_json(model.to_json(indent=1))
    assert [layer.get_config() for layer in again.layers] == [
        layer.get_config() for layer in model.layers
    ]
    assert again.input_shape == model.input_shape
    copied = Sequential.from_config(model.get_config())
    assert copied.count_params() == model.count_params()
    open_ended = Sequential([layers.Dense(3)])
    assert not model_from_json(open_ended.to_json()).built
    with pytest.raises(ValueError, match="`json_string` cannot be read: it is no JSON"):
        model_from_json("{")
    for part, other in (('"float32"', '"Float32"'), ('"units": 8', '"units": []')):
        with pytest.raises(ValueError, match="`json_string` cannot be read"):
            model_from_json(model.to_json().replace(part, other))


class Twice(layers.Layer):
    def call(self, x: np.ndarray) -> np.ndarray:
        return 2 * x


def test_layers_of_the_user(tmp_path: Path) -> None:
    model = Sequential([layers.Input((6,)), Twice(), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"class .*Twice, which fusednn does not have"):
        load_model(tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras", custom_objects={"Twice": Twice})
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))


class Quadratic(Elementwise):
    name = "quadratic"
    config_names = ("factor",)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def forward(self, x: Any, out: Any = None, work: Any = None) -> Any:
        return np.multiply(x, self.factor * x, out=out)


class Twos(initializers.Initializer):
    def fill(self, shape: Any, dtype: Any, rng: Any) -> Any:
        return np.full(shape, 2, dtype)


class Misses(metrics.MeanOverSamples):
    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred.argmax(axis=-1) != y_true


class Slower(optimizers.SGD):
    pass


def test_objects_of_the_user(tmp_path: Path) -> None:
    model = Sequential(
        [layers.Input((6,)), layers.Dense(3, activation=Quadratic(0.5), kernel_initializer=Twos())]
    )
    model.compile(Slower(0.1), "sparse_categorical_crossentropy", metrics=[Misses()])
    own = {cls.__name__: cls for cls in (Quadratic, Twos, Misses, Slower)}
    for ending in (".keras", ".h5"):
        path = tmp_path / f"m{ending}"
        model.save(path)
        again = load_model(path, custom_objects=own)
        assert isinstance(again.layers[0].activation, Quadratic)
        assert again.layers[0].activation.factor == 0.5
        assert isinstance(again.layers[0].kernel_initializer, Twos)
        assert isinstance(again.optimizer, Slower)
        assert again.metrics_names == ["loss", "misses"]
        for missing in own:
            with pytest.raises(ValueError, match=rf"{path} cannot be read: .*{missing}"):
                load_model(path, custom_objects={k: v for k, v in own.items() if k != missing})


# ---- writing


def test_a_crash_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained()
    for name in ("m.keras", "m.h5"):
        path = tmp_path / name
        model.save(path)
        old = path.read_bytes()

        def crash(*_: Any) -> None:
            raise RuntimeError("the power went")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", crash)
            with pytest.raises(RuntimeError, match="the power went"):
                model.save(path)
        assert path.read_bytes() == old
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.h5", "m.keras"]


def test_where_models_may_be_written(tmp_path: Path) -> None:
    model = trained()
    with pytest.raises(ValueError, match=r"`filepath` must end with .keras or .h5"):
        model.save(tmp_path / "m.pickle")
    with pytest.raises(ValueError, match=r"`filepath` must end with .h5 or .safetensors"):
        model.save_weights(tmp_path / "m.keras")
    model.save(tmp_path / "m.keras")
    with pytest.raises(FileExistsError, match="`overwrite` is False"):
        model.save(tmp_path / "m.keras", overwrite=False)
    with pytest.raises(FileNotFoundError, match="`filepath` must be a file"):
        load_model(tmp_path / "no.keras")
    (tmp_path / "folder.h5").mkdir()
    with pytest.raises(IsADirectoryError, match="must not have the name of a folder"):
        model.save(tmp_path / "folder.h5")
    with pytest.raises(FileNotFoundError, match=r"The folder of a file must exist\. .*none.m\.h5$"):
        model.save(tmp_path / "none" / "m.h5")
    with pytest.raises(ValueError, match=r"input shape of model .* is not known yet"):
        Sequential([layers.Dense(2)]).save(tmp_path / "open.keras")
    quantized = trained(optimizers.Adam(quantized_states=True))
    with pytest.raises(NotImplementedError, match="`include_optimizer=False`"):
        quantized.save(tmp_path / "q.keras")
    assert not (tmp_path / "q.keras").exists()


def test_files_of_keras_2(tmp_path: Path) -> None:
    """Spellings that Keras 2 wrote."""
    config = {
        "class_name": "Sequential",
        "config": {
            "name": "old",
            "layers": [
                {
                    "class_name": "InputLayer",
                    "config": {
                        "batch_input_shape": [None, 4],
                        "dtype": "float32",
                        "sparse": False,
                        "ragged": False,
                        "name": "input_1",
                    },
                },
                {
                    "class_name": "Dense",
                    "config": {"name": "dense", "units": 3, "dtype": "float32"},
                },
                {
                    "class_name": "BatchNormalization",
                    "config": {"name": "bn", "axis": [1], "momentum": 0.9, "dtype": "float32"},
                },
                {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.1}},
            ],
        },
    }
    training = {
        "loss": "mse",
        "metrics": [[{"class_name": "MeanMetricWrapper", "config": {"name": "mse", "fn": "mse"}}]],
        "weighted_metrics": None,
        "optimizer_config": {
            "class_name": "Custom>Adam",
            "config": {"name": "Adam", "learning_rate": 0.25, "decay": 0.0, "jit_compile": False},
        },
    }
    arrays = {
        "dense": ["kernel", "bias"],
        "bn": ["gamma", "beta", "moving_mean", "moving_variance"],
    }
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps(training)
        group = file.create_group("model_weights")
        names = [b"dense", b"bn", b"leaky"]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:2], names[2:]
        for name in names:
            own = group.create_group(name.decode())
            weights = [f"{name.decode()}/{w}:0" for w in arrays.get(name.decode(), [])]
            own.attrs["weight_names"] = [w.encode() for w in weights] or np.zeros(0, "S1")
            for i, weight in enumerate(weights):
                shape = (4, 3) if weight == "dense/kernel:0" else (3,)
                own.create_dataset(weight, data=np.full(shape, i + 1.0))
    model = load_model(tmp_path / "old.h5")
    assert [w.ravel()[0] for w in model.get_weights()] == [1, 2, 1, 2, 3, 4]
    assert model.layers[2].negative_slope == 0.1
    assert model.optimizer.learning_rate == 0.25
    assert model.metrics_names == ["loss", "mse"]


def test_h5py_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"install h5py, or `fusednn\[files\]`"):
        saving.save_model(trained(), tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())
