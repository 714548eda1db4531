"""Which device models compute on: ``fusednn.device("cuda")``."""

from __future__ import annotations

import re
import threading
from contextvars import ContextVar
from typing import Any

import numpy as np

from fusednn.devices.base import CPU, Array, Device, count_move, moves
from fusednn.devices.given import as_array, finish, is_cupys, rows_of, stacked
from fusednn.devices.settings import cuda_settings, release_cuda_memory

__all__ = [
    "CPU",
    "Array",
    "Device",
    "as_array",
    "by_name",
    "count_move",
    "cuda_settings",
    "current",
    "device",
    "device_of",
    "finish",
    "is_cupys",
    "moves",
    "release_cuda_memory",
    "rows_of",
    "stacked",
]

_current: ContextVar[Device] = ContextVar("fusednn_device", default=CPU)
_known: dict[str, Device] = {"cpu": CPU}
_first_use = threading.Lock()


class _Setting:
    """What `device` returns: as a context manager it puts the device of before back at its end."""

    def __init__(self, before: Device, chosen: Device) -> None:
        self._before = before
        self._chosen = chosen

    def __enter__(self) -> Device:
        return self._chosen

    def __exit__(self, *_: object) -> None:
        _current.set(self._before)

    def __repr__(self) -> str:
        return f"<fusednn.device({self._chosen.name!r})>"


def device(name: str) -> _Setting:
    """Choose the device that models compute on, from now on or within a ``with`` block.

    A model follows the device that is current when it is called: its weights, and with the next
    step its optimizer's states, move there and stay until it is called under another one. Data
    are NumPy's or CuPy's; inputs that are CuPy's stay on the GPU where the model computes there,
    and are copied to the host where it does not. Outputs, losses, metrics and what callbacks see
    are NumPy's on every device.

    Parameters
    ----------
    name : str
        ``"cpu"``; ``"cuda"`` or ``"cuda:0"``, the first NVIDIA GPU, ``"cuda:1"`` the second and so
        on. As in Keras, "gpu" is another name of "cuda".

    Returns
    -------
    context manager
        It has chosen already; leaving its ``with`` block chooses the device of before again.

    Raises
    ------
    TypeError, ValueError
        `name` is no string, or none of these; or the machine has no GPU of this number.
    RuntimeError
        The GPU cannot be used: CuPy, the package's CUDA library, the driver or the GPU is missing.
        Nothing is changed then.

    Notes
    -----
    The choice is that of the current thread (a context variable): others begin on the CPU.

    On a GPU arrays are CuPy's (``pip install 'fusednn[cuda]'``), matrix products cuBLAS's in full
    float32 or float64, all else the package's kernels and CuPy's. From the second batch of a size
    on, a training step is replayed from CUDA graphs. Layers that have no GPU form yet are refused
    by name.

    Keras has ``keras.device`` for TensorFlow, JAX and PyTorch; PyTorch moves modules with ``.to``.

    Examples
    --------
    >>> import fusednn
    >>> with fusednn.device("cpu") as chosen:
    ...     print(chosen.name)
    cpu
    """
    chosen = by_name(name)
    before = _current.get()
    _current.set(chosen)
    return _Setting(before, chosen)


def current() -> Device:
    """Return the device that was chosen in this thread, the CPU if none was."""
    return _current.get()


def device_of(array: Any) -> Device:
    """Return the device that an array of NumPy or CuPy is on."""
    return CPU if isinstance(array, np.ndarray) else by_name(f"cuda:{array.device.id}")


def by_name(name: Any) -> Device:
    """Return the device of a name that `device` takes."""
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string. Received: name={name!r}")
    lower = name.lower()
    found = re.fullmatch(r"(?:cuda|gpu)(?::(\d{1,4}))?", lower)
    key = f"cuda:{int(found[1] or 0)}" if found else lower
    if key not in _known:
        if found is None:
            raise ValueError(
                f"`name` must be 'cpu', 'cuda' or 'cuda:' and a number. Received: name={name!r}"
            )
        from fusednn.devices.cuda import Cuda

        with _first_use:
            # Two objects of one GPU would have two streams, and two locks.
            if key not in _known:
                _known[key] = Cuda(int(found[1] or 0))
    return _known[key]
