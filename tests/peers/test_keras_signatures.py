"""What is named as in Keras has its arguments: names, order, defaults."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest

import fusednn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

MODULES = (
    "activations",
    "callbacks",
    "constraints",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "optimizers.schedules",
    "regularizers",
    "wrappers",
)

#: Arguments that are missing, by their name in Keras, and why.
MISSING = {
    "args": "bases name their arguments instead of taking any",
    "kwargs": "bases name their arguments instead of taking any",
    "call_function": "there is no functional API",
    "input_axes": "kernels have the axes of Keras' layers",
    "input_tensors": "there is no functional API",
    "lora_alpha": "there are no adapters of low rank",
    "lora_rank": "there are no adapters of low rank",
    "output_axes": "kernels have the axes of Keras' layers",
    "quantization_config": "there are no quantized layers",
    "rebuild": "models are rebuilt at once",
    "recursive": "models inside are always cloned",
    "renorm": "there is no batch renormalization",
    "renorm_clipping": "there is no batch renormalization",
    "renorm_momentum": "there is no batch renormalization",
    "synchronized": "there is one process",
    "verbose": "ONNX files are written in silence",
    "input_signature": "ONNX files have the model's own input",
}
#: Functions whose first argument is given by position, and has one name for all kinds here.
FIRST = ("serialize",)
#: Defaults that differ on purpose, by place and argument.
DEFAULTS = {
    ("AveragePooling2D", "pool_size"): "as of MaxPooling2D",
    ("AvgPool2D", "pool_size"): "as of MaxPooling2D",
    ("PReLU", "alpha_initializer"): "upper and lower case are alike",
    ("Sequential.export", "format"): "TensorFlow's formats need TensorFlow",
    ("Sequential.fit", "x"): "Keras fails later where it is missing",
    ("Sequential.evaluate", "x"): "Keras fails later where it is missing",
    ("Sequential.train_on_batch", "y"): "Keras fails later where it is missing",
    ("Sequential.test_on_batch", "y"): "Keras fails later where it is missing",
}
METHODS = [
    "add",
    "build",
    "compile",
    "count_params",
    "evaluate",
    "export",
    "fit",
    "from_config",
    "get_config",
    "get_layer",
    "get_weights",
    "load_weights",
    "pop",
    "predict",
    "predict_on_batch",
    "save",
    "save_weights",
    "set_weights",
    "summary",
    "test_on_batch",
    "to_json",
    "train_on_batch",
]


def pairs() -> Iterator[tuple[str, Any, Any]]:
    for path in MODULES:
        ours, theirs = fusednn, keras
        for part in path.split("."):
            ours, theirs = getattr(ours, part), getattr(theirs, part)
        for name in sorted(set(dir(theirs)) & set(dir(ours))):
            mine = getattr(ours, name)
            if not name.startswith("_") and callable(mine):
                yield f"{path}.{name}", mine, getattr(theirs, name)
    for name in METHODS:
        yield (
            f"Sequential.{name}",
            getattr(fusednn.Sequential, name),
            getattr(keras.Sequential, name),
        )


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {n: p for n, p in inspect.signature(function).parameters.items() if n != "self"}


def same_default(mine: Any, theirs: Any, name: str) -> bool:
    if name == "name" and mine is None:
        return theirs is None or isinstance(theirs, str)  # the class's name in either case
    return bool(mine is theirs or mine == theirs or repr(mine) == repr(theirs))


ALL = list(pairs())


@pytest.mark.parametrize(("path", "mine", "theirs"), ALL, ids=[path for path, _, _ in ALL])
def test_signature(path: str, mine: Any, theirs: Any) -> None:
    short = path if path.startswith("Sequential") else path.rpartition(".")[2]
    if inspect.isclass(mine) and short in (
        "Layer",
        "Model",
        "Optimizer",
        "Initializer",
        "Callback",
    ):
        return  # bases: Keras passes on whatever it is given
    ours, keras_has = parameters(mine), parameters(theirs)
    passes_on = any(p.kind is p.VAR_KEYWORD for p in ours.values())
    positional = [n for n, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    wrong = []
    shared = []
    for index, (name, parameter) in enumerate(keras_has.items()):
        if index == 0 and short in FIRST:
            continue
        if name in ours:
            shared.append(name)
            if (short, name) not in DEFAULTS and not same_default(
                ours[name].default, parameter.default, name
            ):
                wrong.append(f"{name}={ours[name].default!r}, not {parameter.default!r}")
        elif name not in MISSING and not (passes_on and name in ("name", "dtype", "trainable")):
            wrong.append(f"{name} is missing")
    # What can be given by position is what Keras' programs give so.
    in_order = [name for name in positional if name in shared]
    if in_order != [name for name in shared if name in positional]:
        wrong.append(f"order {in_order}")
    for own, name in zip(positional, keras_has, strict=False):
        if short not in FIRST and own != name and name not in MISSING:
            wrong.append(f"{own} is in the place of {name}")
            break
    assert not wrong, f"{path}: {'; '.join(wrong)}"


@pytest.mark.parametrize("options", [{"input_shape": (8,)}, {"batch_input_shape": (None, 8)}])
@pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated")
def test_older_names_of_shapes(options: dict[str, Any]) -> None:
    for library in (keras, fusednn):
        model = library.Sequential([library.layers.InputLayer(**options), library.layers.Dense(2)])
        assert model.input_shape == (None, 8)


def test_own_objects_are_found_by_name() -> None:
    class Half(fusednn.losses.MeanSquaredError):
        pass

    class Tripled(fusednn.initializers.Ones):
        pass

    found = fusednn.losses.deserialize("Half", {"Half": Half})
    assert type(found) is Half
    entry = {"class_name": "Half", "config": {"reduction": "sum"}}
    assert fusednn.losses.deserialize(entry, custom_objects={"Half": Half}).reduction == "sum"
    assert type(fusednn.initializers.deserialize("Tripled", {"Tripled": Tripled})) is Tripled
    with pytest.raises(ValueError, match="Half"):
        fusednn.losses.deserialize("Half")


def test_lists_hold_what_differs_only() -> None:
    theirs = {name for _, _, function in ALL for name in parameters(function)}
    assert set(MISSING) <= theirs
    assert all(function.partition(".")[2] or function for function, _ in DEFAULTS)


def test_what_is_loaded_late_is_listed() -> None:
    for module in (
        fusednn,
        fusednn.callbacks,
        fusednn.models,
        fusednn.saving,
        fusednn.wrappers,
    ):
        assert set(module.__all__) <= set(dir(module))
