"""Finds BatchNormalization followed by (leaky) ReLU in a model, and makes one layer of each pair.

Keras' models are not changed but copied, as by `keras.models.clone_model`: the copy has layers of
its own, with the same names and weights. The fused layer has the name of the BatchNormalization;
the activation's layer is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras

from fusednn.keras.batch_normalization_leaky_relu import BatchNormalizationLeakyReLU


@dataclass(frozen=True)
class Pair:
    """A BatchNormalization and what :func:`convert` makes of it."""

    batch_normalization: str
    """The layer's name, after those of the models around it, with slashes between."""
    activation: str | None
    """That of the activation after it, if one was found."""
    reason: str | None
    """Why the two stay as they are; None where they are made one."""


def find_pairs(model: keras.Model) -> list[Pair]:
    """Return for every BatchNormalization of `model` what :func:`convert` would do with it.

    Parameters
    ----------
    model : keras.Sequential or functional keras.Model

    Returns
    -------
    list of Pair
        In the order of the layers; of models in `model`, too.
    """
    _require_model(model)
    return _pairs_in(model, "")


def convert(model: keras.Model) -> keras.Model:
    """Return a copy of `model` in which BatchNormalization and (leaky) ReLU are one layer.

    Parameters
    ----------
    model : keras.Sequential or functional keras.Model
        Built. It stays as it is.

    Returns
    -------
    keras.Model
        With the same weights, and if `model` is compiled, compiled alike, with a new optimizer.

    Raises
    ------
    TypeError
        `model` is a model of another kind, whose `call` nobody can look into: use the layer in it.
    ValueError
        `model` is not built.

    Notes
    -----
    What is not certain stays as it is: :func:`find_pairs` says what, and why. In models with
    branches the layers of the copy may come in another order. On backends without kernels the copy
    computes what `model` does.
    """
    _require_model(model)
    fused = {pair.batch_normalization: pair for pair in _own_pairs(model) if pair.reason is None}
    absorbed = {pair.activation for pair in fused.values()}

    def clone(layer: Any) -> Any:
        if isinstance(layer, keras.Sequential) or _is_functional(layer):
            return convert(layer)
        if layer.name in fused:
            activation = model.get_layer(fused[layer.name].activation)
            config = layer.get_config() | {"negative_slope": _slope(activation)}
            return BatchNormalizationLeakyReLU.from_config(config)
        return layer.__class__.from_config(layer.get_config())

    def replace(layer: Any) -> list[Any]:
        return [] if layer.name in absorbed else [clone(layer)]

    return _rebuilt(model, replace)


def revert(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with Keras' own layers, which opens where fusednn is not installed.

    Parameters
    ----------
    model : keras.Sequential or functional keras.Model
        Built. It stays as it is.

    Returns
    -------
    keras.Model
        As of :func:`convert`. The activation after a BatchNormalization ``name`` is a LeakyReLU
        ``name_leaky_relu``.

    Raises
    ------
    TypeError, ValueError
        As of :func:`convert`.
    """
    _require_model(model)

    def replace(layer: Any) -> list[Any]:
        if isinstance(layer, keras.Sequential) or _is_functional(layer):
            return [revert(layer)]
        config = layer.get_config()
        if type(layer) is not BatchNormalizationLeakyReLU:
            return [layer.__class__.from_config(config)]
        slope = config.pop("negative_slope")
        activation = keras.layers.LeakyReLU(
            slope, name=f"{layer.name}_leaky_relu", dtype=layer.dtype_policy
        )
        return [keras.layers.BatchNormalization.from_config(config), activation]

    return _rebuilt(model, replace)


def _is_functional(model: Any) -> bool:
    # The class itself is not public.
    return isinstance(model, keras.Model) and hasattr(model, "_run_through_graph")


def _require_model(model: Any) -> None:
    if not isinstance(model, keras.Sequential) and not _is_functional(model):
        raise TypeError(
            "`model` must be a keras.Sequential, or a keras.Model of inputs and outputs. "
            f"Received: type={type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: give it an Input, or call it once. "
            f"Received: {model.name!r}, which is not"
        )


def _rebuilt(model: keras.Model, replace: Callable[[Any], list[Any]]) -> keras.Model:
    """Return a copy with the layers that `replace` returns for each; weights go by names."""
    if isinstance(model, keras.Sequential):
        layers = [new for layer in model.layers for new in replace(layer)]
        inputs = [keras.Input(batch_shape=model.input_shape, dtype=model.inputs[0].dtype)]
        copy = keras.Sequential(inputs + layers, name=model.name, trainable=model.trainable)
        if model.compiled:
            copy.compile_from_config(model.get_compile_config())
    else:
        # `clone_model` calls the first for a layer once, the second wherever the layer stands.
        replaced: dict[str, list[Any]] = {}

        def clone(layer: Any) -> Any:
            new = replaced.setdefault(layer.name, replace(layer))
            return new[0] if new else keras.layers.Identity(name=layer.name)

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            new = replaced[layer.name]
            if not new:
                return args[0]
            outputs = layer(*args, **kwargs)
            for following in new[1:]:
                outputs = following(outputs)
            return outputs

        copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _pairs_in(model: keras.Model, prefix: str) -> list[Pair]:
    own = {pair.batch_normalization: pair for pair in _own_pairs(model)}
    found = []
    for layer in model.layers:
        if layer.name in own:
            pair = own[layer.name]
            after = None if pair.activation is None else prefix + pair.activation
            found.append(Pair(prefix + layer.name, after, pair.reason))
        elif isinstance(layer, keras.Sequential) or _is_functional(layer):
            found += _pairs_in(layer, f"{prefix}{layer.name}/")
    return found


def _own_pairs(model: keras.Model) -> list[Pair]:
    """Return the pairs of the layers of `model` itself."""
    after = _followers(model)
    pairs = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and not isinstance(
            layer, BatchNormalizationLeakyReLU
        ):
            follower, reason = after[layer.name]
            if reason is None and follower is not None:
                reason = _obstacle(layer, follower)
            pairs.append(Pair(layer.name, follower and follower.name, reason))
    return pairs


def _followers(model: keras.Model) -> dict[str, tuple[Any, str | None]]:
    """Return for each layer the only activation that takes its result, or why there is none."""
    if isinstance(model, keras.Sequential):
        following = dict(pairwise([*model.layers, None]))
        return {
            layer.name: (None, _why_none(after)) if _slope(after) is None else (after, None)
            for layer, after in following.items()
        }
    users: dict[int, list[Any]] = {}
    calls: dict[str, int] = {}
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes if node.operation]
    for node in nodes:
        calls[node.operation.name] = calls.get(node.operation.name, 0) + 1
        for tensor in node.input_tensors:
            users.setdefault(id(tensor), []).append(node.operation)
    results = {id(tensor) for tensor in keras.tree.flatten(model.outputs)}
    found: dict[str, tuple[Any, str | None]] = {}
    for node in nodes:
        layer, tensor = node.operation, node.output_tensors[0]
        takers = users.get(id(tensor), [])
        if calls[layer.name] > 1:
            found[layer.name] = (None, f"called {calls[layer.name]} times")
        elif len(takers) != 1 or id(tensor) in results:
            found[layer.name] = (None, "its result is used by something else than one activation")
        elif _slope(takers[0]) is None:
            found[layer.name] = (None, _why_none(takers[0]))
        elif calls[takers[0].name] > 1:
            found[layer.name] = (takers[0], "the activation stands in several places of the model")
        else:
            found[layer.name] = (takers[0], None)
    return found


def _slope(layer: Any) -> float | None:
    """Return the negative slope of a layer that is a (leaky) ReLU; None of another."""
    layers, activations = keras.layers, keras.activations
    if type(layer) is layers.LeakyReLU:
        return float(layer.negative_slope)
    if type(layer) is layers.ReLU and layer.max_value is None and layer.threshold == 0:
        return float(layer.negative_slope)
    if type(layer) is layers.Activation:
        slopes = {activations.relu: 0.0, activations.leaky_relu: 0.2}
        return slopes.get(layer.activation)
    return None


def _why_none(layer: Any) -> str:
    """Return why `layer`, which follows, is no (leaky) ReLU that the kernels have."""
    layers = keras.layers
    if type(layer) is layers.ReLU:
        given = {"max_value": layer.max_value, "threshold": layer.threshold or None}
        options = [f"{name}={value:g}" for name, value in given.items() if value is not None]
        return f"the ReLU after it has {' and '.join(options)}"
    if type(layer) is layers.Activation:
        return f"the activation after it is {keras.activations.serialize(layer.activation)}"
    if isinstance(
        layer, layers.LeakyReLU | layers.ReLU | layers.PReLU | layers.ELU | layers.Softmax
    ):
        return f"the activation after it is a {type(layer).__name__}"
    return "no activation follows"


def _obstacle(norm: Any, activation: Any) -> str | None:
    """Return why a pair that was found cannot be one layer."""
    if type(norm) is not keras.layers.BatchNormalization:
        return f"{type(norm).__name__} is not exactly keras.layers.BatchNormalization"
    for option in ("renorm", "synchronized"):
        if getattr(norm, option, False):
            return f"it has {option}=True"
    if norm.activity_regularizer is not None or activation.activity_regularizer is not None:
        return "one of the two has an activity regularizer"
    if norm.compute_dtype != activation.compute_dtype:
        return f"one computes in {norm.compute_dtype}, the other in {activation.compute_dtype}"
    return None
