"""Every class that Keras has too, with its options, in files of Keras and in files for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn import (
    constraints,
    initializers,
    layers,
    losses,
    models,
    optimizers,
    regularizers,
)

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="reads and writes the files")

pytestmark = [
    # Keras' own tensors do not know NumPy 2's `copy` yet.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

Options = dict[str, Any]

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((9, 6)).astype(np.float32)
IMAGES = RNG.standard_normal((9, 7, 5, 2)).astype(np.float32)

#: Layers of vectors, then those of images.
FIRST: Options = {"data_format": "channels_first"}
LAYERS: list[tuple[str, Options]] = [
    ("Activation", {"activation": "selu"}),
    ("Activation", {"activation": "leaky_relu"}),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}),
    ("AlphaDropout", {"rate": 0.3, "seed": 4}),
    ("BatchNormalization", {}),
    ("BatchNormalization", {"momentum": 0.5, "epsilon": 0.1, "center": False, "scale": False}),
    ("BatchNormalization", {"beta_initializer": "ones", "gamma_regularizer": "l1", "axis": 1}),
    ("BatchNormalization", {"gamma_constraint": "non_neg", "moving_mean_initializer": "ones"}),
    ("Dense", {"units": 4}),
    ("Dense", {"units": 4, "use_bias": False, "activation": "gelu", "trainable": False}),
    ("Dense", {"units": 4, "kernel_initializer": "he_normal", "bias_initializer": "ones"}),
    ("Dense", {"units": 4, "kernel_regularizer": "l1", "activity_regularizer": "l2"}),
    ("Dense", {"units": 4, "kernel_constraint": "max_norm", "bias_constraint": "unit_norm"}),
    ("Dropout", {"rate": 0.3}),
    ("Dropout", {"rate": 0.3, "seed": 5}),
    ("ELU", {}),
    ("ELU", {"alpha": 0.3}),
    ("Flatten", {}),
    ("GaussianDropout", {"rate": 0.3, "seed": 2}),
    ("GaussianNoise", {"stddev": 0.3}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.05}),
    ("Normalization", {}),
    ("Normalization", {"mean": 2.0, "variance": 4.0}),
    ("Normalization", {"mean": [1.0] * 6, "variance": [3.0] * 6, "invert": True}),
    ("PReLU", {}),
    ("PReLU", {"alpha_initializer": "ones", "alpha_regularizer": "l2"}),
    ("PReLU", {"alpha_constraint": "non_neg"}),
    ("ReLU", {}),
    ("ReLU", {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2}),
    ("Rescaling", {"scale": 0.5, "offset": 1.0}),
    ("Reshape", {"target_shape": (2, 3)}),
    ("Softmax", {}),
    ("AveragePooling2D", {"pool_size": 2}),
    ("AveragePooling2D", {"pool_size": (3, 2), "strides": 2, "padding": "same"}),
    ("Conv2D", {"filters": 3, "kernel_size": 2}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "strides": 2, "padding": "same"}),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "activation": "elu"}),
    ("Conv2D", {"filters": 3, "kernel_size": 2, "kernel_regularizer": "l2", "use_bias": False}),
    ("GlobalAveragePooling2D", {}),
    ("GlobalMaxPooling2D", {"keepdims": True}),
    ("GlobalAveragePooling2D", {"keepdims": True}),
    ("MaxPooling2D", {}),
    ("MaxPooling2D", {"pool_size": 3, "strides": (1, 2), "padding": "same"}),
    ("BatchNormalization", {"axis": -1}),
    ("BatchNormalization", {"axis": 1}),
    ("PReLU", {"shared_axes": [1, 2]}),
    ("AveragePooling2D", {"pool_size": 2, "padding": "same"} | FIRST),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2), "padding": "same"} | FIRST),
    ("Flatten", FIRST),
    ("GlobalAveragePooling2D", {"keepdims": True} | FIRST),
    ("MaxPooling2D", {"pool_size": (3, 2)} | FIRST),
]  # fmt: skip
IMAGE_LAYERS = 33


def numpy(x: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(x))


def data(index: int) -> np.ndarray:
    return VECTORS if index < IMAGE_LAYERS else IMAGES


@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated")  # Keras 2 knows no other
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_layers(tmp_path: Path, ending: str) -> None:
    """Both ways, without and with training for the moving statistics."""
    for index, (name, options) in enumerate(LAYERS):
        same = name == "AveragePooling2D" and options.get("padding") == "same"
        if same and keras.backend.backend() == "torch":
            continue  # there, and only there, Keras repeats the edge of an image
        x = data(index)
        path = tmp_path / f"{index}{ending}"
        theirs = keras.Sequential(
            [keras.Input(x.shape[1:]), getattr(keras.layers, name)(**options)]
        )
        if (
            name != "Normalization"
        ):  # whose numbers in use are others than its weights, until `adapt`
            theirs.set_weights([w + 0.1 for w in theirs.get_weights()])
        expected = numpy(theirs(x))
        theirs.save(path)
        ours = models.load_model(path)
        case = f"{name} {options}"
        np.testing.assert_allclose(ours.predict(x, verbose=0), expected, atol=1e-6, err_msg=case)
        path.unlink()
        ours.save(path)
        again = keras.models.load_model(path)
        np.testing.assert_allclose(numpy(again(x)), expected, atol=1e-6, err_msg=case)
        third = models.load_model(path)
        assert third.layers[0].get_config() == ours.layers[0].get_config(), case
        theirs_again = models.model_from_json(again.to_json())
        assert theirs_again.layers[0].get_config() == ours.layers[0].get_config(), case
        assert keras.models.model_from_json(ours.to_json()).count_params() == theirs.count_params()


#: Arguments of `Dense` in which another object is.
INNER: list[tuple[str, str, str, Options]] = [
    ("kernel_initializer", "initializers", "Zeros", {}),
    ("kernel_initializer", "initializers", "Ones", {}),
    ("kernel_initializer", "initializers", "Constant", {"value": 0.5}),
    ("kernel_initializer", "initializers", "Identity", {}),
    ("kernel_initializer", "initializers", "RandomNormal", {"mean": 1.0, "stddev": 0.1}),
    ("kernel_initializer", "initializers", "RandomUniform", {"minval": 0.0, "seed": 1}),
    ("kernel_initializer", "initializers", "TruncatedNormal", {"stddev": 0.1, "seed": 3}),
    ("kernel_initializer", "initializers", "Orthogonal", {"gain": 2.0}),
    ("kernel_initializer", "initializers", "VarianceScaling", {"scale": 2.0, "mode": "fan_out"}),
    ("kernel_initializer", "initializers", "VarianceScaling", {"distribution": "uniform"}),
    *[("kernel_initializer", "initializers", name, {"seed": 2})
      for name in ("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal",
                   "LecunUniform")],
    ("kernel_regularizer", "regularizers", "L1", {"l1": 0.25}),
    ("kernel_regularizer", "regularizers", "L2", {"l2": 0.25}),
    ("kernel_regularizer", "regularizers", "L1L2", {"l1": 0.5, "l2": 0.25}),
    ("kernel_regularizer", "regularizers", "OrthogonalRegularizer", {"factor": 0.25}),
    ("kernel_constraint", "constraints", "MaxNorm", {"max_value": 3, "axis": [0, 1]}),
    ("kernel_constraint", "constraints", "MinMaxNorm", {"min_value": 0.1, "rate": 0.5}),
    ("kernel_constraint", "constraints", "NonNeg", {}),
    ("kernel_constraint", "constraints", "UnitNorm", {"axis": 1}),
    ("activation", "layers", "LeakyReLU", {"negative_slope": 0.4}),
    ("activation", "layers", "ELU", {"alpha": 0.4}),
    ("activation", "layers", "ReLU", {}),
    ("activation", "layers", "ReLU", {"max_value": 6}),
    ("activation", "layers", "ReLU", {"negative_slope": 0.1}),
    ("activation", "layers", "Softmax", {}),
]  # fmt: skip
OWN = {
    "constraints": constraints,
    "initializers": initializers,
    "layers": layers,
    "regularizers": regularizers,
}


@pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated")  # Keras 2 knows no other
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_what_layers_are_given(tmp_path: Path, ending: str) -> None:
    for index, (argument, kind, name, options) in enumerate(INNER):
        path = tmp_path / f"{index}{ending}"
        made = getattr(getattr(keras, kind), name)(**options)
        theirs = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, **{argument: made})])
        expected = numpy(theirs(VECTORS))
        theirs.save(path)
        ours = models.load_model(path)
        case = f"{name} {options}"
        np.testing.assert_allclose(
            ours.predict(VECTORS, verbose=0), expected, atol=1e-6, err_msg=case
        )
        own = getattr(OWN[kind], name)(**options)
        direct = layers.Dense(6, **{argument: own}, name=ours.layers[0].name)
        assert ours.layers[0].get_config() == direct.get_config(), case
        ours.save(path)
        again = keras.models.load_model(path)
        np.testing.assert_allclose(numpy(again(VECTORS)), expected, atol=1e-6)
        back = models.load_model(path)
        assert back.layers[0].get_config() == direct.get_config(), case


LABELS = np.arange(9) % 3
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
SIGNS = (np.arange(9) % 2).astype(np.float32)[:, None]
LOSSES: list[tuple[str, Options, Any]] = [
    ("BinaryCrossentropy", {}, ONE_HOT),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, ONE_HOT),
    ("CategoricalCrossentropy", {}, ONE_HOT),
    ("CategoricalCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, ONE_HOT),
    ("CategoricalHinge", {}, ONE_HOT),
    ("CosineSimilarity", {}, ONE_HOT),
    ("Hinge", {}, ONE_HOT),
    ("Huber", {}, ONE_HOT),
    ("KLDivergence", {}, ONE_HOT),
    ("LogCosh", {}, ONE_HOT),
    ("MeanAbsoluteError", {"reduction": "sum"}, ONE_HOT),
    ("MeanAbsolutePercentageError", {}, ONE_HOT),
    ("MeanSquaredError", {"name": "other"}, ONE_HOT),
    ("MeanSquaredLogarithmicError", {}, ONE_HOT),
    ("Poisson", {}, ONE_HOT),
    ("SparseCategoricalCrossentropy", {}, LABELS),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, LABELS),
    ("SparseCategoricalCrossentropy", {"ignore_class": 1}, LABELS),
    ("SquaredHinge", {}, ONE_HOT),
]
METRICS: list[tuple[str, Options, Any]] = [
    ("AUC", {}, ONE_HOT),
    ("AUC", {"num_thresholds": 50, "curve": "PR", "name": "area"}, ONE_HOT),
    ("AUC", {"multi_label": True, "num_labels": 3, "name": "each"}, ONE_HOT),
    ("AUC", {"thresholds": [0.2, 0.4], "curve": "PRGAIN", "name": "gain"}, ONE_HOT),
    ("AUC", {"summation_method": "minoring", "from_logits": True, "name": "below"}, ONE_HOT),
    ("Accuracy", {}, ONE_HOT),
    ("BinaryAccuracy", {"threshold": 0.3}, ONE_HOT),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, ONE_HOT),
    ("CategoricalAccuracy", {}, ONE_HOT),
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, ONE_HOT),
    ("CategoricalHinge", {}, ONE_HOT),
    ("CosineSimilarity", {}, ONE_HOT),
    ("FalseNegatives", {"thresholds": 0.3}, ONE_HOT),
    ("FalsePositives", {}, ONE_HOT),
    ("Hinge", {}, ONE_HOT),
    ("KLDivergence", {}, ONE_HOT),
    ("LogCoshError", {}, ONE_HOT),
    ("MeanAbsoluteError", {}, ONE_HOT),
    ("MeanAbsolutePercentageError", {}, ONE_HOT),
    ("MeanSquaredError", {"dtype": "float32"}, ONE_HOT),
    ("MeanSquaredLogarithmicError", {}, ONE_HOT),
    ("Poisson", {}, ONE_HOT),
    ("Precision", {}, ONE_HOT),
    ("Precision", {"thresholds": 0.4, "class_id": 1}, ONE_HOT),
    ("Recall", {"thresholds": 0.3}, ONE_HOT),
    ("RootMeanSquaredError", {}, ONE_HOT),
    ("SparseCategoricalAccuracy", {}, LABELS),
    ("SparseCategoricalCrossentropy", {}, LABELS),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2, "name": "others"}, LABELS),
    ("SparseTopKCategoricalAccuracy", {"k": 2}, LABELS),
    ("SquaredHinge", {}, ONE_HOT),
    ("TopKCategoricalAccuracy", {"k": 2}, ONE_HOT),
    ("TrueNegatives", {}, ONE_HOT),
    ("TruePositives", {"thresholds": 0.2}, ONE_HOT),
]


def softmax_model() -> Any:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_losses(tmp_path: Path, ending: str) -> None:
    for index, (name, options, y) in enumerate(LOSSES):
        path = tmp_path / f"{index}{ending}"
        case = f"{name} {options}"
        theirs = softmax_model()
        theirs.compile("sgd", getattr(keras.losses, name)(**options))
        predicted = numpy(theirs(VECTORS))
        expected = float(theirs.loss(y, predicted))
        theirs.save(path)
        ours = models.load_model(path)
        direct = getattr(losses, name)(**options)
        assert ours.loss.get_config() == direct.get_config(), case
        assert ours.loss(y, predicted) == pytest.approx(expected, rel=2e-5), case
        ours.save(path)
        again = keras.models.load_model(path)
        assert float(keras.losses.get(again.loss)(y, predicted).mean()) == pytest.approx(
            expected, rel=2e-5
        ), case
        assert models.load_model(path).loss.get_config() == direct.get_config(), case


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("labels", [LABELS, ONE_HOT], ids=["integers", "one-hot"])
def test_metrics(tmp_path: Path, labels: np.ndarray, ending: str) -> None:
    chosen = [(name, options) for name, options, y in METRICS if y is labels]
    theirs = softmax_model()
    made = [getattr(keras.metrics, name)(**options) for name, options in chosen]
    loss = "sparse_categorical_crossentropy" if labels is LABELS else "mse"
    theirs.compile("sgd", loss, metrics=made)
    expected = theirs.evaluate(VECTORS, labels, verbose=0)
    theirs.save(tmp_path / f"k{ending}")
    ours = models.load_model(tmp_path / f"k{ending}")
    assert ours.metrics_names == ["loss", *(m.name for m in made)]
    found = ours.evaluate(VECTORS, labels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    ours.save(tmp_path / f"o{ending}")
    again = keras.models.load_model(tmp_path / f"o{ending}")
    found = again.evaluate(VECTORS, labels, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_weights_of_labels(tmp_path: Path) -> None:
    """Apart, because Keras cannot write them in HDF5."""
    theirs = softmax_model()
    made = keras.metrics.AUC(label_weights=[1.0, 0.5, 0.0], multi_label=True)
    theirs.compile("sgd", "mse", metrics=[made])
    expected = theirs.evaluate(VECTORS, ONE_HOT, verbose=0)
    theirs.save(tmp_path / "k.keras")
    ours = models.load_model(tmp_path / "k.keras")
    np.testing.assert_allclose(ours.evaluate(VECTORS, ONE_HOT, verbose=0), expected, rtol=2e-5)
    for ending in (".keras", ".h5"):
        ours.save(tmp_path / f"o{ending}")
        again = keras.models.load_model(tmp_path / f"o{ending}")
        found = again.evaluate(VECTORS, ONE_HOT, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=2e-5)


OPTIMIZERS: list[tuple[str, Options]] = [
    ("SGD", {"momentum": 0.5, "nesterov": True, "clipnorm": 1.0, "learning_rate": 0.25}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "epsilon": 0.25, "clipvalue": 0.5}),
    ("RMSprop", {"rho": 0.5, "momentum": 0.5, "centered": True, "weight_decay": 0.5}),
    ("Adam", {"beta_1": 0.5, "beta_2": 0.75, "amsgrad": True, "global_clipnorm": 2.0}),
    ("AdamW", {"weight_decay": 0.25, "epsilon": 0.5, "name": "other"}),
    ("Adamax", {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3}),
    ("Nadam", {"beta_1": 0.5}),
]
SCHEDULES: list[tuple[str, Options]] = [
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.5, "decay_steps": 3, "decay_rate": 0.5, "staircase": True},
    ),
    ("PiecewiseConstantDecay", {"boundaries": [2, 4], "values": [0.5, 0.25, 0.125]}),
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.5, "decay_steps": 3, "power": 2.0, "cycle": True},
    ),
    ("InverseTimeDecay", {"initial_learning_rate": 0.5, "decay_steps": 3, "decay_rate": 0.5}),
    (
        "CosineDecay",
        {
            "initial_learning_rate": 0.0,
            "decay_steps": 3,
            "alpha": 0.5,
            "warmup_target": 0.5,
            "warmup_steps": 2,
        },
    ),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.5, "first_decay_steps": 3, "t_mul": 3.0}),
]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_optimizers_and_schedules(tmp_path: Path, ending: str) -> None:
    cases = [(name, options, None) for name, options in OPTIMIZERS]
    cases += [("SGD", {}, schedule) for schedule in SCHEDULES]
    for index, (name, options, schedule) in enumerate(cases):
        made = []
        for library in (keras.optimizers, optimizers):
            rate = {}
            if schedule is not None:
                rate["learning_rate"] = getattr(library.schedules, schedule[0])(**schedule[1])
            made.append(getattr(library, name)(**options, **rate))
        theirs = softmax_model()
        theirs.compile(made[0], "mse")
        path = tmp_path / f"{index}{ending}"
        theirs.save(path)
        ours = models.load_model(path)
        expected = made[1].get_config()
        found = ours.optimizer.get_config()
        assert found.pop("name") == made[0].name
        expected.pop("name")
        for option, value in expected.items():
            close = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            assert found[option] == close, option
        ours.save(path)
        again = keras.models.load_model(path)
        kept = again.optimizer.get_config()
        for option, value in made[0].get_config().items():
            if option not in ("learning_rate", "epsilon"):
                assert kept[option] == value, option
        for step in range(6) if schedule is not None else ():
            rate = float(again.optimizer._learning_rate(step))
            assert rate == pytest.approx(made[1]._rate.before_decay(step), rel=1e-5)
