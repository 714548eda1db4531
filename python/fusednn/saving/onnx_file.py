"""Models for inference as ONNX files: each layer as the operators that compute it.

Images keep Keras' order of axes outside of convolutions and pooling, which ONNX has only with the
channels before rows and columns: those are transposed around them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn import activations, layers
from fusednn.layers import Layer
from fusednn.layers.global_pooling import GlobalPooling2D
from fusednn.layers.image_axes import channels_last
from fusednn.layers.pooling import Pooling2D
from fusednn.saving.atomic import replacing

if TYPE_CHECKING:
    from fusednn.models import Sequential

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]

_OPSETS = range(17, 22)


class Graph:
    """The nodes of a model; each method adds some and returns the name of the result."""

    def __init__(self, dtype: np.dtype[Any], opset: int) -> None:
        self.dtype = dtype
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add one operator of one output."""
        import onnx

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add an array, or a number of the model's dtype."""
        import onnx

        name = f"constant_{len(self.constants)}"
        array = np.asarray(value, self.dtype if dtype is None else dtype)
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def activation(self, made: activations.Activation, x: str) -> str:
        """Add an activation."""
        if made.name in _FUNCTIONS:
            return _FUNCTIONS[made.name](self, x, made)
        raise NotImplementedError(f"The activation '{made.name}' has no ONNX form here.")

    def images(
        self, x: str, data_format: str, operator: str, *inputs: str, **attributes: Any
    ) -> str:
        """Add an operator on images, with the axes as it wants them."""
        if data_format == "channels_first":
            return self.add(operator, x, *inputs, **attributes)
        x = self.add("Transpose", x, perm=[0, 3, 1, 2])
        x = self.add(operator, x, *inputs, **attributes)
        return self.add("Transpose", x, perm=[0, 2, 3, 1])


def _simple(operator: str, **attributes: Any) -> Callable[[Graph, str, Any], str]:
    return lambda graph, x, made: graph.add(operator, x, **attributes)


def _of_rows(operator: str) -> Callable[[Graph, str, Any], str]:
    def add(graph: Graph, x: str, made: activations.Softmax) -> str:
        if not isinstance(made.axis, int):
            raise NotImplementedError(
                f"The activation {made.name} over several axes has no ONNX form here."
            )
        return graph.add(operator, x, axis=made.axis)

    return add


def _gelu(graph: Graph, x: str, made: activations.GELU) -> str:
    if made.approximate:
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", cube, graph.constant(0.044715)))
        z = graph.add("Tanh", graph.add("Mul", inner, graph.constant(math.sqrt(2 / math.pi))))
    else:
        z = graph.add("Erf", graph.add("Mul", x, graph.constant(math.sqrt(0.5))))
    half = graph.add("Mul", x, graph.constant(0.5))
    return graph.add("Mul", half, graph.add("Add", z, graph.constant(1.0)))


_FUNCTIONS: dict[str, Callable[[Graph, str, Any], str]] = {
    "linear": lambda graph, x, made: x,
    "relu": _simple("Relu"),
    "relu6": lambda graph, x, made: graph.add("Clip", x, graph.constant(0), graph.constant(6)),
    "leaky_relu": lambda graph, x, made: graph.add("LeakyRelu", x, alpha=made.negative_slope),
    "elu": lambda graph, x, made: graph.add("Elu", x, alpha=made.alpha),
    "celu": lambda graph, x, made: graph.add("Celu", x, alpha=made.alpha),
    "selu": lambda graph, x, made: graph.add("Selu", x, alpha=made.alpha, gamma=made.scale),
    "sigmoid": _simple("Sigmoid"),
    "hard_sigmoid": _simple("HardSigmoid", alpha=1 / 6, beta=0.5),
    "tanh": _simple("Tanh"),
    "softplus": _simple("Softplus"),
    "softsign": _simple("Softsign"),
    "exponential": _simple("Exp"),
    "softmax": _of_rows("Softmax"),
    "log_softmax": _of_rows("LogSoftmax"),
    "hard_silu": _simple("HardSwish"),
    "silu": lambda graph, x, made: graph.add("Mul", x, graph.add("Sigmoid", x)),
    "mish": lambda graph, x, made: graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x))),
    "gelu": _gelu,
}


def _dense(graph: Graph, layer: layers.Dense, x: str, shape: Shape) -> str:
    kernel, *bias = layer.get_weights()
    x = graph.add("MatMul", x, graph.constant(kernel))
    if bias:
        x = graph.add("Add", x, graph.constant(bias[0]))
    return graph.activation(layer.activation, x)


def _dense_transpose(graph: Graph, layer: layers.DenseTranspose, x: str, shape: Shape) -> str:
    x = graph.add("MatMul", x, graph.constant(layer._kernel().numpy().T))
    if layer.bias is not None:
        x = graph.add("Add", x, graph.constant(layer.bias.numpy()))
    return graph.activation(layer.activation, x)


def _convolution(graph: Graph, layer: layers.Conv2D, x: str, shape: Shape) -> str:
    kernel, *bias = layer.get_weights()
    inputs = [graph.constant(kernel.transpose(3, 2, 0, 1)), *map(graph.constant, bias)]
    x = graph.images(
        x,
        layer.data_format,
        "Conv",
        *inputs,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        kernel_shape=layer.kernel_size,
        group=layer.groups,
        pads=_pads(layer, shape),
    )
    return graph.activation(layer.activation, x)


def _pooling(graph: Graph, layer: Pooling2D, x: str, shape: Shape) -> str:
    attributes: dict[str, Any] = {
        "kernel_shape": layer.pool_size,
        "strides": layer.strides,
        "pads": _pads(layer, shape),
    }
    if isinstance(layer, layers.MaxPooling2D):
        return graph.images(x, layer.data_format, "MaxPool", **attributes)
    return graph.images(x, layer.data_format, "AveragePool", count_include_pad=0, **attributes)


def _pads(layer: layers.Conv2D | Pooling2D, shape: Shape) -> list[int]:
    windows = layer.windows
    rows, columns = channels_last(shape, layer.data_format)[1:3]
    if rows is None or columns is None:
        raise ValueError(f"The input of layer '{layer.name}' must have a known size.")
    (top, bottom), (left, right) = windows.margin(rows, 0), windows.margin(columns, 1)
    return [top, left, bottom, right] if windows.padding == "same" else [0, 0, 0, 0]


def _of_whole_images(graph: Graph, layer: GlobalPooling2D, x: str, shape: Shape) -> str:
    keep = int(layer.keepdims)
    axes = [2, 3] if layer.data_format == "channels_first" else [1, 2]
    operator = "ReduceMax" if isinstance(layer, layers.GlobalMaxPooling2D) else "ReduceMean"
    if graph.opset < 18:
        return graph.add(operator, x, axes=axes, keepdims=keep)
    return graph.add(operator, x, graph.constant(axes, np.int64), keepdims=keep)


def _normalisation(graph: Graph, layer: layers.BatchNormalization, x: str, shape: Shape) -> str:
    values: dict[str, Any] = {v.name: v.numpy().astype(np.float64) for v in layer.weights}
    along = [1] * len(shape)
    along[layer.channel_axis(len(shape))] = -1
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + layer.epsilon)
    x = graph.add("Sub", x, graph.constant(values["moving_mean"].reshape(along)))
    x = graph.add("Mul", x, graph.constant(scale.reshape(along)))
    if "beta" in values:
        x = graph.add("Add", x, graph.constant(values["beta"].reshape(along)))
    return x


def _rectifier(graph: Graph, layer: layers.ReLU, x: str, shape: Shape) -> str:
    if layer.threshold or (layer.max_value is not None and layer.negative_slope):
        raise NotImplementedError(
            f"Layer '{layer.name}' has no ONNX form here: a ReLU with a threshold, or with both "
            "`max_value` and `negative_slope`."
        )
    if layer.max_value is not None:
        return graph.add("Clip", x, graph.constant(0), graph.constant(layer.max_value))
    return graph.add("LeakyRelu", x, alpha=layer.negative_slope)


def _standardised(graph: Graph, layer: layers.Normalization, x: str, shape: Shape) -> str:
    a, b = layer._coefficients()
    if layer.invert:
        return graph.add("Add", graph.add("Mul", x, graph.constant(a)), graph.constant(b))
    return graph.add("Div", graph.add("Sub", x, graph.constant(a)), graph.constant(b))


def _rescaled(graph: Graph, layer: layers.Rescaling, x: str, shape: Shape) -> str:
    x = graph.add("Mul", x, graph.constant(layer.scale))
    return graph.add("Add", x, graph.constant(layer.offset))


def _flattened(graph: Graph, layer: layers.Flatten, x: str, shape: Shape) -> str:
    rank = len(shape)
    if layer.data_format == "channels_first" and rank > 2:
        x = graph.add("Transpose", x, perm=[0, *range(2, rank), 1])
    return _reshaped(graph, layer, x, shape)


def _reshaped(graph: Graph, layer: Layer, x: str, shape: Shape) -> str:
    dims = layer.compute_output_shape(shape)[1:]
    target = [0, *(-1 if n is None else n for n in dims)]
    return graph.add("Reshape", x, graph.constant(target, np.int64))


def _same(graph: Graph, layer: Layer, x: str, shape: Shape) -> str:
    return x


_LAYERS: dict[type[Layer], Callable[[Graph, Any, str, Shape], str]] = {
    layers.Dense: _dense,
    layers.DenseTranspose: _dense_transpose,
    layers.Conv2D: _convolution,
    layers.MaxPooling2D: _pooling,
    layers.AveragePooling2D: _pooling,
    layers.GlobalAveragePooling2D: _of_whole_images,
    layers.GlobalMaxPooling2D: _of_whole_images,
    layers.BatchNormalization: _normalisation,
    layers.Activation: lambda g, layer, x, shape: g.activation(layer.activation, x),
    layers.LeakyReLU: lambda g, layer, x, shape: g.add("LeakyRelu", x, alpha=layer.negative_slope),
    layers.ELU: lambda g, layer, x, shape: g.add("Elu", x, alpha=layer.alpha),
    layers.Softmax: lambda g, layer, x, shape: g.activation(layer.as_activation(), x),
    layers.PReLU: lambda g, layer, x, shape: g.add("PRelu", x, g.constant(layer.get_weights()[0])),
    layers.ReLU: _rectifier,
    layers.Flatten: _flattened,
    layers.Reshape: _reshaped,
    layers.Rescaling: _rescaled,
    layers.Normalization: _standardised,
    layers.ActivityRegularization: _same,
    layers.AlphaDropout: _same,
    layers.Dropout: _same,
    layers.GaussianDropout: _same,
    layers.GaussianNoise: _same,
}


def export_onnx(
    model: Sequential, filepath: str | os.PathLike[str], *, opset: int = 17, fold: bool = True
) -> None:
    """Write a model for inference to an ONNX file.

    Parameters
    ----------
    model : Sequential
        Built.
    filepath : path-like
        Ends with ``.onnx``.
    opset : int
        Version of ONNX' operators, from 17 to 21.
    fold : bool
        Whether to make normalisations part of the weights before them; see `fold_batch_norm`.

    Raises
    ------
    NotImplementedError
        A layer or an activation has no form in ONNX here; it is named.
    ValueError
        The model is not built, or an argument is none of those above.
    ImportError
        The package onnx is not installed.

    Notes
    -----
    The input is called "input", the output "output"; the batch axis is open.
    """
    from fusednn.models.folding import fold_batch_norm
    from fusednn.models.own_call import refuse_own_call

    try:
        import onnx
    except ImportError:
        raise ImportError("ONNX files need the package onnx: install `fusednn[onnx]`.") from None
    target = Path(filepath)
    if target.suffix != ".onnx":
        raise ValueError(f"`filepath` must end with .onnx. Received: filepath={target}")
    if opset not in _OPSETS:
        raise ValueError(f"`opset` must be from 17 to 21. Received: opset={opset}")
    model._check_built()
    refuse_own_call(model, "`export_onnx`")
    exported = fold_batch_norm(model) if fold else model
    graph = Graph(exported.dtype, opset)
    name, shape = "input", exported.input_shape
    for layer in exported._leaves:
        if type(layer) not in _LAYERS:
            raise NotImplementedError(
                f"Layer '{layer.name}' of the class {type(layer).__name__} has no ONNX form here."
            )
        name = _LAYERS[type(layer)](graph, layer, name, shape)
        shape = layer.compute_output_shape(shape)
    graph.nodes.append(onnx.helper.make_node("Identity", [name], ["output"], "output"))
    element = onnx.helper.np_dtype_to_tensor_dtype(exported.dtype)

    def value(label: str, dims: Sequence[int | None]) -> Any:
        return onnx.helper.make_tensor_value_info(label, element, ["batch", *dims[1:]])

    made = onnx.helper.make_graph(
        graph.nodes,
        exported.name,
        [value("input", exported.input_shape)],
        [value("output", shape)],
        graph.constants,
    )
    versions = [onnx.helper.make_opsetid("", opset)]
    proto = onnx.helper.make_model(made, opset_imports=versions, producer_name="fusednn")
    proto.ir_version = 8  # of opset 17; readers of later operators take it, too
    onnx.checker.check_model(proto)
    with replacing(target) as temporary:
        temporary.write_bytes(proto.SerializeToString())
