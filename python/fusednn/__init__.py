"""fusednn: fused BatchNorm, leaky ReLU and optimizer kernels, and a Keras-named model API.

``fusednn.ops`` holds the kernels as functions on NumPy arrays; everything else is named after
Keras, so that ``import fusednn as keras`` reads as expected. Parts are loaded when first used: an
embedder of ``ops`` does not pay for models, nor ``fusednn --help`` for the kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn import (
        activations,
        backend,
        callbacks,
        constraints,
        data,
        datasets,
        diagnostics,
        initializers,
        layers,
        losses,
        metrics,
        models,
        ops,
        optimizers,
        regularizers,
        saving,
        utils,
        wrappers,
    )
    from fusednn.devices import cuda_settings, device, release_cuda_memory
    from fusednn.embedding import get_cmake_dir, get_include, get_library_dir
    from fusednn.initializers import Initializer
    from fusednn.layers import Input, Layer
    from fusednn.losses import Loss
    from fusednn.metrics import Metric
    from fusednn.models import Model, Sequential
    from fusednn.optimizers import Optimizer
    from fusednn.regularizers import Regularizer
    from fusednn.runtime import (
        __version__,
        build_info,
        get_num_threads,
        instruction_set,
        instruction_sets,
        num_threads_source,
        set_num_threads,
    )
    from fusednn.variable import Variable

__all__ = [
    "Initializer",
    "Input",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "backend",
    "build_info",
    "callbacks",
    "constraints",
    "cuda_settings",
    "data",
    "datasets",
    "device",
    "diagnostics",
    "get_cmake_dir",
    "get_include",
    "get_library_dir",
    "get_num_threads",
    "initializers",
    "instruction_set",
    "instruction_sets",
    "layers",
    "losses",
    "metrics",
    "models",
    "num_threads_source",
    "ops",
    "optimizers",
    "regularizers",
    "release_cuda_memory",
    "saving",
    "set_num_threads",
    "utils",
    "wrappers",
]

# Names that live in a module below; all others in __all__ are modules themselves.
_HOMES = {
    "Initializer": "initializers",
    "Input": "layers",
    "Layer": "layers",
    "Loss": "losses",
    "Metric": "metrics",
    "Model": "models",
    "Optimizer": "optimizers",
    "Regularizer": "regularizers",
    "Sequential": "models",
    "Variable": "variable",
    "__version__": "runtime",
    "build_info": "runtime",
    "cuda_settings": "devices",
    "device": "devices",
    "get_cmake_dir": "embedding",
    "get_include": "embedding",
    "get_library_dir": "embedding",
    "get_num_threads": "runtime",
    "instruction_set": "runtime",
    "instruction_sets": "runtime",
    "num_threads_source": "runtime",
    "release_cuda_memory": "devices",
    "set_num_threads": "runtime",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fusednn' has no attribute '{name}'")
    if name in _HOMES:
        value = getattr(import_module(f"fusednn.{_HOMES[name]}"), name)
    else:
        value = import_module(f"fusednn.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
