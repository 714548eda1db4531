"""Which of Keras' backends the kernels compute on. On the others Keras itself does."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

import keras

#: Of each backend that has kernels, the modules that call them: of the layer, of optimizers.
_LAYERS = {"torch": "fusednn.keras.torch_layer"}
_STEPS = {"torch": "fusednn.keras.torch_step"}
_announced = False


def kernels_are_used() -> bool:
    """Return whether the kernels compute on the backend that Keras runs on.

    Where they do not, the layer and the optimizers compute as Keras' own, and a UserWarning says so
    when the first one is made.
    """
    return keras.backend.backend() in _LAYERS


def layer_kernels() -> ModuleType | None:
    """Return what computes the layer; None where that is Keras itself."""
    return _module(_LAYERS)


def step_kernels() -> ModuleType | None:
    """Return what makes the optimizers' steps; None where that is Keras itself."""
    return _module(_STEPS)


def _module(modules: dict[str, str]) -> ModuleType | None:
    global _announced
    backend = keras.backend.backend()
    if backend in modules:
        return import_module(modules[backend])
    if not _announced:
        _announced = True
        warnings.warn(
            f"fusednn.keras has no kernels for Keras' backend {backend!r}: its layers and "
            f"optimizers compute as Keras' own there. Backends with kernels: {', '.join(modules)}.",
            stacklevel=5,
        )
    return None
