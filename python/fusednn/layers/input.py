"""The first entry of a `Sequential`: the shape of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusednn.layers.layer import BatchShape, Layer
from fusednn.layers.sample_shapes import sample_shape, split_batch_shape


class InputLayer(Layer):
    """States the shape of one sample, so that the model is built as layers are added.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample, without the batch axis.
    batch_size : int, optional
        Accepted for Keras' sake and shown in shapes; batches of every size run all the same.
    dtype : str, optional
        Of the data as the caller has it, any NumPy type; the layers after it convert to their
        own `dtype`, as in Keras.
    batch_shape : tuple of int or None, optional
        `batch_size` and `shape` in one.
    name : str, optional
    sparse, ragged, input_tensor, optional
        Keras', which must be off: inputs are arrays.
    input_shape, batch_input_shape : tuple of int, optional
        Keras 2's names of `shape` and `batch_shape`.
    """

    def __init__(
        self,
        shape: Sequence[int] | int | None = None,
        batch_size: int | None = None,
        dtype: str | np.dtype[Any] | type | None = None,
        sparse: bool | None = None,
        ragged: bool | None = None,
        batch_shape: Sequence[int | None] | None = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        *,
        input_shape: Sequence[int] | int | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
    ) -> None:
        off = {"sparse": sparse, "ragged": ragged, "optional": optional}
        for option, value in (off | {"input_tensor": input_tensor}).items():
            if value is not None and value is not False:
                raise ValueError(
                    f"`{option}` of an input must be off: it is an array. "
                    f"Received: {option}={value!r}"
                )
        shapes = {
            "shape": shape,
            "batch_shape": batch_shape,
            "input_shape": input_shape,
            "batch_input_shape": batch_input_shape,
        }
        given = {argument: value for argument, value in shapes.items() if value is not None}
        if len(given) != 1:
            received = ", ".join(f"{a}={v}" for a, v in given.items())
            raise ValueError(
                "Exactly one of `shape` and `batch_shape` must be given, or Keras 2's "
                "`input_shape` or `batch_input_shape` in their place. "
                f"Received: {received or 'shape=None, batch_shape=None'}"
            )
        [(argument, value)] = given.items()
        if argument.startswith("batch"):
            batch_size, value = split_batch_shape(value, argument)
        sample = sample_shape(value, argument)
        super().__init__(name=name)
        self.sample_shape = sample
        self.batch_size = batch_size
        self.data_dtype = self.dtype if dtype is None else np.dtype(dtype)
        self.built = True

    @property
    def batch_shape(self) -> BatchShape:
        """Shape with the batch axis, which is None unless `batch_size` was given."""
        return (self.batch_size, *self.sample_shape)

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer."""
        return {
            "batch_shape": self.batch_shape,
            "dtype": self.data_dtype.name,
            "name": self.name,
        }


def Input(  # noqa: N802 - Keras' name
    shape: Sequence[int] | int | None = None,
    batch_size: int | None = None,
    dtype: str | np.dtype[Any] | type | None = None,
    sparse: bool | None = None,
    ragged: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> InputLayer:
    """Make the input of a `Sequential`: ``Sequential([Input(shape=(64,)), Dense(10)])``.

    Parameters are those of `InputLayer`, which is what this returns: there is no functional API,
    hence no symbolic tensor as in Keras.
    """
    return InputLayer(shape, batch_size, dtype, sparse, ragged, batch_shape, tensor, optional, name)
