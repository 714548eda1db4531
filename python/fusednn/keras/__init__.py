"""fusednn's kernels in programs of Keras 3.

A layer (`BatchNormalizationLeakyReLU`), `convert`, which puts it into a model, `revert`, which
takes it out, and the optimizers of `fusednn.keras.optimizers`. They are subclasses of Keras' own
with the same arguments, weights and files. `kernels_are_used` tells whether the kernels compute on
Keras' backend, or Keras itself.
"""

try:
    import keras
except ImportError as error:
    raise ImportError(
        "fusednn.keras adapts Keras 3, which must be installed: pip install keras, and a backend. "
        f"Received: {error}"
    ) from error

if int(keras.__version__.split(".")[0]) < 3:
    raise ImportError(f"fusednn.keras adapts Keras 3. Received: Keras {keras.__version__}")

from fusednn.keras import optimizers
from fusednn.keras.backends import kernels_are_used
from fusednn.keras.batch_normalization_leaky_relu import BatchNormalizationLeakyReLU
from fusednn.keras.convert import Pair, convert, find_pairs, revert

__all__ = [
    "BatchNormalizationLeakyReLU",
    "Pair",
    "convert",
    "find_pairs",
    "kernels_are_used",
    "optimizers",
    "revert",
]
