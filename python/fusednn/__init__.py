"""fusednn: fused BatchNorm, leaky ReLU and optimizer kernels, and a Keras-named model API.

``fusednn.ops`` holds the kernels as functions on NumPy arrays; everything else is named after
Keras, so that ``import fusednn as keras`` reads as expected.
"""

from fusednn import (
    activations,
    callbacks,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    utils,
)
from fusednn.models import Sequential
from fusednn.runtime import (
    build_info,
    get_num_threads,
    instruction_set,
    instruction_sets,
    num_threads_source,
    set_num_threads,
)
from fusednn.variable import Variable

__version__ = build_info()["version"]

__all__ = [
    "Sequential",
    "Variable",
    "__version__",
    "activations",
    "build_info",
    "callbacks",
    "datasets",
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
    "set_num_threads",
    "utils",
]
