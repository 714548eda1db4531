"""Exported models, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusednn import activations, layers, utils
from fusednn.models import Sequential
from fusednn.saving.onnx_file import _FUNCTIONS

pytest.importorskip("onnx", reason="writes the files")
runtime = pytest.importorskip("onnxruntime", reason="runs them")

RNG = np.random.default_rng(0)

STACKS: dict[str, tuple[tuple[int, ...], Callable[[], list[layers.Layer]]]] = {
    "dense": (
        (7,),
        lambda: [
            layers.Normalization(mean=0.5, variance=4.0),
            layers.BatchNormalization(),
            layers.Dense(9),
            layers.BatchNormalization(epsilon=1e-2),
            layers.LeakyReLU(0.1),
            layers.Dropout(0.5),
            layers.Dense(5, activation="tanh"),
            layers.BatchNormalization(scale=False),
            layers.PReLU("ones"),
            layers.Dense(3, activation="softmax", use_bias=False),
        ],
    ),
    "tied": (
        (7,),
        lambda: [
            layers.Dense(5, name="tied"),
            layers.BatchNormalization(),
            layers.DenseTranspose("tied", "sigmoid"),
        ],
    ),
    "rank 3": (
        (4, 6),
        lambda: [
            layers.Dense(5, activation="gelu"),
            layers.BatchNormalization(axis=1),
            layers.ELU(0.5),
            layers.Reshape((10, -1)),
            layers.Softmax(),
            layers.Flatten(),
            layers.ReLU(max_value=0.5),
        ],
    ),
    "images": (
        (9, 8, 2),
        lambda: [
            layers.Rescaling(2.0, -1.0),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(negative_slope=0.2),
            layers.MaxPooling2D(3, 2, "same"),
            layers.Conv2D(6, 2, groups=2),
            layers.Conv2D(3, (2, 3), dilation_rate=(2, 1), activation="silu"),
            layers.PReLU(shared_axes=[1, 2]),
            layers.AveragePooling2D(2, 1, "same"),
            layers.GlobalMaxPooling2D(keepdims=True),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.GlobalAveragePooling2D(),
        ],
    ),
    "channels first": (
        (2, 9, 8),
        lambda: [
            layers.Conv2D(4, 3, padding="same", data_format="channels_first"),
            layers.BatchNormalization(axis=1),
            layers.MaxPooling2D((3, 2), 2, "same", data_format="channels_first"),
            layers.Conv2D(3, (2, 3), strides=(1, 2), data_format="channels_first"),
            layers.AveragePooling2D(2, 1, "same", data_format="channels_first"),
            layers.GlobalAveragePooling2D("channels_first", keepdims=True),
            layers.Flatten("channels_first"),
        ],
    ),
    "channels first, flattened": (
        (3, 5, 4),
        lambda: [layers.Flatten("channels_first"), layers.Dense(3)],
    ),
}


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(["output"], {"input": x})
    return y


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("name", STACKS)
def test_models(tmp_path: Path, name: str, opset: int, fold: bool) -> None:
    shape, make = STACKS[name]
    utils.set_random_seed(1)
    model = Sequential([layers.Input(shape), *make()])
    for variable in model.weights:
        variable.assign(np.abs(0.3 + 0.3 * RNG.standard_normal(variable.shape)))
    model.export(tmp_path / "m.onnx", opset=opset, fold=fold)
    for rows in (1, 7):
        x = RNG.standard_normal((rows, *shape)).astype(np.float32)
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(_FUNCTIONS))
def test_activations(tmp_path: Path, name: str) -> None:
    model = Sequential([layers.Input((5,)), layers.Activation(name)])
    model.export(tmp_path / "m.onnx")
    x = (3 * RNG.standard_normal((9, 5))).astype(np.float32)
    expected = activations.get(name)(x)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, rtol=1e-4, atol=1e-5)


def test_refusals(tmp_path: Path) -> None:
    class Own(layers.Layer):
        def call(self, x: np.ndarray) -> np.ndarray:
            return x

    model = Sequential([layers.Input((5,)), Own(name="mine")])
    with pytest.raises(NotImplementedError, match="Layer 'mine' of the class Own has no ONNX form"):
        model.export(tmp_path / "m.onnx", fold=False)
    model = Sequential([layers.Input((5,)), layers.ReLU(threshold=0.5, name="r")])
    with pytest.raises(NotImplementedError, match="Layer 'r' has no ONNX form here"):
        model.export(tmp_path / "m.onnx")
    model = Sequential([layers.Input((5,)), layers.Activation("squareplus")])
    with pytest.raises(NotImplementedError, match="activation 'squareplus' has no ONNX form"):
        model.export(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"`filepath` must end with .onnx"):
        model.export(tmp_path / "m.pb")
    with pytest.raises(ValueError, match="`opset` must be from 17 to 21"):
        model.export(tmp_path / "m.onnx", opset=9)
    with pytest.raises(ValueError, match="`format` must be 'onnx'"):
        model.export(tmp_path / "m.onnx", format="tf_saved_model")
    assert not list(tmp_path.iterdir())
