"""Activation functions with Keras' names and defaults, and their derivatives.

Each is an object: ``activations.relu(x)`` calls it, `forward` and `backward` are what layers use.
Most derivatives are functions of the output y alone, so that y may take the place of x in memory;
`needs_input` marks the others.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from fusednn._serialization import Registry, custom
from fusednn._serialization import serialize as serialize_object
from fusednn.activations.algebraic import SparsePlus, Squareplus
from fusednn.activations.base import Activation, Elementwise
from fusednn.activations.exponential import CELU, ELU, SELU, Exponential
from fusednn.activations.gated import GELU, HardSiLU, Mish, SiLU
from fusednn.activations.rectifiers import HardShrink, LeakyReLU, Linear, ReLU, ReLU6, SoftShrink
from fusednn.activations.rows import LogSoftmax, Softmax
from fusednn.activations.sigmoids import (
    HardSigmoid,
    HardTanh,
    LogSigmoid,
    Sigmoid,
    Softplus,
    Softsign,
    SparseSigmoid,
    Tanh,
    TanhShrink,
)

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "Elementwise",
    "Exponential",
    "HardShrink",
    "HardSiLU",
    "HardSigmoid",
    "HardTanh",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "SoftShrink",
    "Softmax",
    "Softplus",
    "Softsign",
    "SparsePlus",
    "SparseSigmoid",
    "Squareplus",
    "Tanh",
    "TanhShrink",
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
]

linear = Linear()
relu = ReLU()
relu6 = ReLU6()
leaky_relu = LeakyReLU()
elu = ELU()
selu = SELU()
celu = CELU()
exponential = Exponential()
sigmoid = Sigmoid()
hard_sigmoid = HardSigmoid()
log_sigmoid = LogSigmoid()
sparse_sigmoid = SparseSigmoid()
tanh = Tanh()
hard_tanh = HardTanh()
tanh_shrink = TanhShrink()
softsign = Softsign()
softplus = Softplus()
squareplus = Squareplus()
sparse_plus = SparsePlus()
hard_shrink = HardShrink()
soft_shrink = SoftShrink()
gelu = GELU()
silu = swish = SiLU()
hard_silu = hard_swish = HardSiLU()
mish = Mish()
softmax = Softmax()
log_softmax = LogSoftmax()

_CLASSES: list[type[Activation]] = [
    Linear,
    ReLU,
    ReLU6,
    LeakyReLU,
    ELU,
    SELU,
    CELU,
    Exponential,
    Sigmoid,
    HardSigmoid,
    LogSigmoid,
    SparseSigmoid,
    Tanh,
    HardTanh,
    TanhShrink,
    Softsign,
    Softplus,
    Squareplus,
    SparsePlus,
    HardShrink,
    SoftShrink,
    GELU,
    SiLU,
    HardSiLU,
    Mish,
    Softmax,
    LogSoftmax,
]

_registry: Registry[Activation] = Registry(
    "activation",
    Activation,
    _CLASSES,
    {cls.name: cls for cls in _CLASSES} | {"swish": SiLU, "hard_swish": HardSiLU},
)


def get(identifier: Any) -> Activation:
    """Return an activation.

    Parameters
    ----------
    identifier
        An `Activation` (returned as it is), a class, a name (``"relu"``, ``"leaky_relu"``, ...), a
        dictionary ``{"class_name": ..., "config": ...}``, None: `linear`, or a layer `LeakyReLU`,
        `ReLU`, `ELU`, `Softmax` or `Activation`. A plain function is refused, as its derivative is
        not known: make a subclass of `Elementwise` of it.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if identifier is None:
        return linear
    as_activation = getattr(identifier, "as_activation", None)
    if callable(as_activation) and not isinstance(identifier, type):
        made: Activation = as_activation()
        return made
    if inspect.isfunction(identifier):
        raise ValueError(
            "`activation` must not be a plain function, whose derivative is not known: make a "
            "subclass of `activations.Elementwise` with `forward` and `slope`. "
            f"Received: activation={identifier.__qualname__}"
        )
    return _registry.get(identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Activation:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(config, custom_objects))


def serialize(activation: Activation) -> str | dict[str, Any]:
    """Return what `get` turns back: the name, as Keras does, or a dictionary if that is too little.

    A name stands for the default arguments, so others, and activations of the user, get
    ``{"class_name": ..., "config": ...}``.
    """
    if type(activation) in _CLASSES and type(activation)().get_config() == activation.get_config():
        return activation.name
    made: dict[str, Any] = serialize_object(activation)
    return made
