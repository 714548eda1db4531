"""What callbacks and metrics remember, taken apart into JSON and arrays, and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: The one key of what stands for an array.
_REFERENCE = "array in file"


def taken_apart(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return what JSON can hold of `value`, and add its arrays to `arrays`, by names under `name`.

    Raises
    ------
    TypeError
        It holds anything but numbers, strings, None, lists, dictionaries and arrays of numbers.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[name] = value
        return {_REFERENCE: name}
    if isinstance(value, np.generic):
        return taken_apart(value.item(), name, arrays)
    if isinstance(value, (list, tuple)):
        return [taken_apart(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: taken_apart(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        "What `get_state` returns must hold numbers, strings, None, lists, dictionaries by strings "
        f"and arrays of numbers. Received: {value!r:.200} in {name}"
    )


def put_together(written: Any, arrays: Mapping[str, Array]) -> Any:
    """Return what `taken_apart` was given; tuples come back as lists."""
    if isinstance(written, list):
        return [put_together(item, arrays) for item in written]
    if isinstance(written, dict):
        if set(written) == {_REFERENCE}:
            return arrays[written[_REFERENCE]]
        return {key: put_together(item, arrays) for key, item in written.items()}
    return written
