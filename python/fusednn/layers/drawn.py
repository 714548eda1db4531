"""Random numbers of a step: drawn by NumPy, used where the step computes."""

from __future__ import annotations

import numpy as np

from fusednn.devices import CPU
from fusednn.layers.buffers import Buffers
from fusednn.layers.step import Shape


class Drawn:
    """An array that the host writes for each batch, the same on every device for the same seed.

    Attributes
    ----------
    on_host : ndarray
        For the host to write, before `send`.
    used : ndarray
        What the step computes with: on a GPU an array there.
    """

    def __init__(self, shape: Shape, buffers: Buffers) -> None:
        self._device = buffers.device
        self.on_host = np.empty(shape, buffers.dtype)
        self.used = self.on_host if self._device is CPU else buffers.empty(shape)

    def send(self) -> None:
        """Bring what was written to where it is used."""
        if self.used is not self.on_host:
            self._device.write(self.used, self.on_host)
