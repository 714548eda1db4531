"""The OpenBLAS that NumPy is linked to: where its functions are."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache

#: What stands before and behind the names of its functions, by who built it.
SPELLINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))


@cache
def library() -> ctypes.CDLL:
    """Return what NumPy's BLAS can be looked up in.

    A lookup goes through the libraries that this one is linked to, and no others: a second
    OpenBLAS, such as SciPy's, is not met.
    """
    from numpy.linalg import _umath_linalg

    return ctypes.CDLL(_umath_linalg.__file__)


@dataclass(frozen=True)
class Products:
    """Addresses of the functions for products of matrices.

    Attributes
    ----------
    gemm : dict of str to int
        By the name of the dtype.
    wide : bool
        Whether its integers have 64 bits.
    """

    gemm: dict[str, int]
    wide: bool


@cache
def products() -> Products | None:
    """Find ``cblas_sgemm`` and ``cblas_dgemm``; None where NumPy has another BLAS."""
    for prefix, suffix in SPELLINGS:
        names = [f"{prefix}{name}{suffix}" for name in ("cblas_sgemm", "cblas_dgemm")]
        config = f"{prefix}openblas_get_config{suffix}"
        if all(hasattr(library(), name) for name in (*names, config)):
            get_config = getattr(library(), config)
            get_config.restype = ctypes.c_char_p
            found = [ctypes.cast(getattr(library(), name), ctypes.c_void_p).value for name in names]
            gemm = dict(
                zip(("float32", "float64"), (address or 0 for address in found), strict=True)
            )
            return Products(gemm, wide=b"USE64BITINT" in get_config())
    return None


def description() -> str:
    """Return the name and version of NumPy's BLAS, and of OpenBLAS whose machine's kernels it uses.

    OpenBLAS chooses its kernels when it is loaded, ``OPENBLAS_CORETYPE`` overrides it: a variable
    that was set for another machine can make products take twice as long.
    """
    import numpy as np

    try:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{blas['name']} {blas['version']}"
    except (KeyError, TypeError):
        name = "one that is not known"
    for prefix, suffix in SPELLINGS:
        get_name = getattr(library(), f"{prefix}openblas_get_corename{suffix}", None)
        if get_name is not None:
            get_name.restype = ctypes.c_char_p
            told = " (OPENBLAS_CORETYPE)" if os.environ.get("OPENBLAS_CORETYPE") else ""
            return f"{name}, kernels for {get_name().decode()}{told}"
    return name
