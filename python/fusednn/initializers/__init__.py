"""First values of weights, with Keras' names, defaults and distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn._serialization import Registry, custom, serialize
from fusednn.initializers.base import FunctionInitializer, Initializer, RandomInitializer
from fusednn.initializers.constant import Constant, Identity, Ones, Zeros
from fusednn.initializers.random import Orthogonal, RandomNormal, RandomUniform, TruncatedNormal
from fusednn.initializers.variance_scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
    compute_fans,
)

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomInitializer",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "compute_fans",
    "constant",
    "deserialize",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "serialize",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

constant = Constant
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = IdentityInitializer = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = OrthogonalInitializer = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros

_registry: Registry[Initializer] = Registry(
    "initializer",
    Initializer,
    [
        Zeros,
        Ones,
        Constant,
        Identity,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        Orthogonal,
        VarianceScaling,
        GlorotNormal,
        GlorotUniform,
        HeNormal,
        HeUniform,
        LecunNormal,
        LecunUniform,
    ],
    {"zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform},
)


def get(identifier: Any) -> Initializer:
    """Return an initializer.

    Parameters
    ----------
    identifier
        An initializer (returned as it is), a class, a name (``"he_normal"``, ``"HeNormal"``, ...),
        a dictionary ``{"class_name": ..., "config": ...}``, or a function of shape and dtype that
        returns an array: ``lambda shape, dtype: np.full(shape, 2, dtype)``.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if callable(identifier) and not isinstance(identifier, (Initializer, type)):
        return FunctionInitializer(identifier)
    return _registry.get(identifier)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Initializer:
    """As `get`, which also finds classes and functions of your own by name in `custom_objects`."""
    return get(custom(config, custom_objects))
