"""One layer's inputs in any layout and dtype, and the error that their magnitudes justify."""

from __future__ import annotations

import numpy as np

import reference as ref

LAYOUTS = ("NCHW", "NHWC", "NC")


def arranged(x, layout):
    """An array of (outer, channels, inner) in `layout`, and its channel axis."""
    outer, channels, inner = x.shape
    if layout == "NC":
        return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(outer * inner, channels), 1
    height = 7 if inner % 7 == 0 else 1
    image = x.reshape(outer, channels, height, inner // height)
    if layout == "NHWC":
        return np.ascontiguousarray(image.transpose(0, 2, 3, 1)), -1
    return image, 1


class Problem:
    """Inputs of one layer, and the tolerances that their magnitudes justify."""

    def __init__(self, make, shape=(4, 3, 49), dtype=np.float32, layout="NCHW", slope=None):
        dtype, channels = np.dtype(dtype), shape[1]
        own = ref.statistics_dtype(dtype)
        self.slope = slope
        self.x, self.axis = arranged(make.normal(shape, dtype, mean=0.75, std=1.5), layout)
        self.grad, _ = arranged(make.normal(shape, dtype), layout)
        sign = np.where(np.arange(channels) % 3 == 1, -1, 1)
        self.gamma = (make.uniform((channels,), own) * sign).astype(own)
        self.beta = make.normal((channels,), own)
        self.how = {"negative_slope": slope, "channel_axis": self.axis}
        # Near the kink of the activation a rounding decides which side z is on; a gradient of zero
        # there makes both sides right.
        z = ref.batch_norm_forward(self.x, self.gamma, self.beta, channel_axis=self.axis)[0]
        self.grad[np.abs(z) < 1e-3] = 0

    def along(self, vector):
        shape = [1] * self.x.ndim
        shape[self.axis] = -1
        return np.asarray(vector, np.float64).reshape(shape)

    def assert_statistics(self, mean, inv_std, eps=1e-5, ulps=3):
        exact_mean, m2, count = ref.batch_norm_statistics(self.x, self.axis)
        std = np.sqrt(m2 / max(count, 1))
        assert mean.dtype == inv_std.dtype == self.gamma.dtype
        ref.assert_near(mean, exact_mean, ulps=ulps, scale=np.abs(exact_mean) + std)
        ref.assert_near(inv_std, 1 / np.sqrt(m2 / max(count, 1) + eps), ulps=ulps)

    def assert_output(self, y, mean, inv_std, gamma, beta):
        """`y` is what `mean` and `inv_std` say, to a few roundings of the terms behind it."""
        exact = ref.batch_norm_apply(self.x, mean, inv_std, gamma, beta, **self.how)
        scale = np.abs(self.along(inv_std) * (1.0 if gamma is None else self.along(gamma)))
        terms = scale * np.abs(self.x.astype(np.float64) - self.along(mean))
        terms = terms + (0.0 if beta is None else np.abs(self.along(beta)))
        assert y.dtype == self.x.dtype
        ref.assert_near(y, exact, ulps=3, scale=terms * max(1.0, self.slope or 0.0))

    def assert_gradients(self, got, expected, gamma, inv_std, mean, ulps=8):
        grad_x, grad_gamma, grad_beta = got
        n = max(self.x.size // max(self.gamma.size, 1), 1)
        g = np.abs(self.grad.astype(np.float64)) * max(1.0, self.slope or 0.0)
        xhat = np.abs(ref.batch_norm_apply(self.x, mean, inv_std, channel_axis=self.axis))
        sum_g, sum_gx = (ref.channel_sum(v, self.axis) for v in (g, g * xhat))
        assert grad_gamma.dtype == grad_beta.dtype == self.gamma.dtype
        ref.assert_near(grad_gamma, expected[1], ulps=ulps, scale=sum_gx)
        ref.assert_near(grad_beta, expected[2], ulps=ulps, scale=sum_g)
        scale = np.abs(self.along(inv_std) * (1.0 if gamma is None else self.along(gamma)))
        terms = scale * (g + self.along(sum_g) / n + xhat * self.along(sum_gx) / n)
        assert grad_x.dtype == self.x.dtype
        ref.assert_near(grad_x, expected[0], ulps=ulps, scale=terms)
