"""The normal distribution function, for whole arrays: NumPy has no error function.

``erfc(x) = t * exp(p(u) - x**2)`` for x >= 0, with ``t = 2 / (2 + x)`` and ``u = 2 * t - 1`` in
[-1, 1]: the polynomial p is cut off from the Chebyshev series of ``log(erfc(x) / t) + x**2``. The
error is relative, also where erfc is tiny: below 2e-15 in float64 and 5e-7 in float32, plus the
rounding of x**2, which is x**2 ulp.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Coefficients of p, that of u**0 first.
_SHORT = (
    -0.6717940916807759, 0.672643154774543, 0.047343887612987114, -0.04689364055996262,
    -0.009880019324020219, 0.008808825369385993, 0.0017940662497394012, -0.002288765238593006,
    -0.00022791096599906392, 0.0005737663720050471, 8.000738161697865e-06, -8.728381021688478e-05,
)  # fmt: skip
_LONG = (
    -0.6717940840566923, 0.6726432239776567, 0.04734330684190443, -0.0468956102311753,
    -0.009872689366389959, 0.008824938557060623, 0.001758933557799016, -0.002345812500482853,
    -0.00014624686337800334, 0.0006736787955802349, -9.373503117098186e-05, -0.00017430294720307578,
    7.140101412757101e-05, 3.1745179749435566e-05, -3.0187884551396435e-05, 1.3772664134985814e-07,
    8.562623420125929e-06, -2.9479868770085132e-06, -1.2723119048756106e-06, 1.2500276612709431e-06,
    -1.6849800719994488e-07, -2.495832761848945e-07, 1.5334345920493856e-07, 1.4448658123811518e-09,
    -3.917182050875799e-08, 1.1172352260904207e-08, 4.060882146725545e-09, -1.890230600471441e-09,
)  # fmt: skip

_SQRT_HALF = math.sqrt(0.5)


def write_normal_distribution(x: Array, out: Array, work: Array) -> None:
    """Write the probability that a standard normal number is below `x`.

    Parameters
    ----------
    x, out
        `out` lies apart from `x`.
    work
        Two arrays like x, to be overwritten.
    """
    size, u = work
    np.abs(x, out=size)
    size *= _SQRT_HALF
    np.add(size, 2, out=u)
    np.divide(4, u, out=u)
    u -= 1
    *rest, last = _LONG if x.dtype == np.float64 else _SHORT
    np.multiply(u, last, out=out)
    for coefficient in rest[:0:-1]:
        out += coefficient
        out *= u
    out += rest[0]
    size *= size
    out -= size
    np.exp(out, out=out)
    u += 1
    u *= 0.25  # t / 2
    out *= u
    # 1 - out where x > 0, exactly: no array of truth values is made.
    np.greater(x, 0, out=size)
    np.subtract(size, out, out=out)
    np.abs(out, out=out)
