"""A BatchNorm layer's arrays on a device."""

from __future__ import annotations

from devices import array, require_dtype

from batch_norm_problem import Problem
from fusednn import ops


class OnDevice:
    """A layer's arrays on the device, and outputs that are NaN until they are written."""

    def __init__(self, device, make, shape, dtype, layout, offset=0):
        require_dtype(device, dtype)
        self.device, self.offset = device, offset
        self.p = p = Problem(make, shape, dtype, layout, slope=0.1)
        self.gamma, self.beta = array(device, p.gamma), array(device, p.beta)
        self.place(offset)
        self.poison_workspaces()

    def place(self, offset):
        """Put the large arrays `offset` elements after an aligned address."""
        self.offset = offset
        self.x, self.grad = (array(self.device, a, offset) for a in (self.p.x, self.p.grad))

    def outputs(self):
        channels, own = self.p.gamma.shape, self.p.gamma.dtype
        return (
            self.device.empty(self.p.x.shape, self.p.x.dtype, self.offset),
            self.device.empty(channels, own),
            self.device.empty(channels, own),
        )

    def poison_workspaces(self):
        """Leave nothing but NaNs in the memory that the library keeps for such calls."""
        nothing = self.device.empty(self.p.x.shape, self.p.x.dtype, self.offset)
        _, mean, inv_std = self.forward(nothing)
        self.backward(nothing, nothing, mean, inv_std)

    def forward(self, x=None, **how):
        x = self.x if x is None else x
        how = self.p.how | how
        return ops.batch_norm_forward(x, self.gamma, self.beta, out=self.outputs(), **how)

    def backward(self, grad, x, mean, inv_std):
        affine = self.gamma, self.beta
        out = self.outputs()
        return ops.batch_norm_backward(grad, x, *affine, mean, inv_std, out=out, **self.p.how)

    def get(self, arrays):
        return [self.device.get(a) for a in arrays]
