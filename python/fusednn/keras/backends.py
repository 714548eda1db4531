"""Which of Keras' backends the kernels compute on. On the others Keras itself does."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

import keras

#: The modules that call the kernels, by what they compute and by backend.
_MODULES = {
    "layers": {"torch": "fusednn.keras.torch_layer", "jax": "fusednn.keras.jax_layer"},
    "optimizers": {"torch": "fusednn.keras.torch_step", "jax": "fusednn.keras.jax_step"},
}
_announced: set[str] = set()


def kernels_are_used(part: str | None = None) -> bool:
    """Return whether the kernels compute on the backend that Keras runs on.

    Where they do not, the layer or the optimizers compute as Keras' own, and a UserWarning says so
    when the first one is made.

    Parameters
    ----------
    part : {"layers", "optimizers"}, optional
        What is asked for; both if None.

    Raises
    ------
    ValueError
        For another `part`.
    """
    if part is not None and part not in _MODULES:
        raise ValueError(f"`part` must be in {sorted(_MODULES)}, or None. Received: part={part!r}")
    return all(_found(one)[0] is not None for one in ([part] if part else _MODULES))


def kernels_of(part: str) -> ModuleType | None:
    """Return the module that calls the kernels; None, with a warning, where Keras computes."""
    module, reason = _found(part)
    if module is None and part not in _announced:
        _announced.add(part)
        warnings.warn(
            f"fusednn.keras has no kernels for {part} on Keras' backend "
            f"{keras.backend.backend()!r}: they compute as Keras' own there. {reason}",
            stacklevel=4,
        )
    return module


def _found(part: str) -> tuple[ModuleType | None, str]:
    modules = _MODULES[part]
    backend = keras.backend.backend()
    if backend not in modules:
        return None, f"Backends with kernels: {', '.join(modules)}."
    try:
        return import_module(modules[backend]), ""
    except ImportError as error:  # a build without the library that XLA calls
        return None, str(error)
