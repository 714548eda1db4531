"""Products of matrices on the CPU, from arrays that stay where they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType
from typing import Any, cast

import numpy as np

from fusednn import _core, openblas

Array = np.ndarray[Any, np.dtype[Any]]


def bound_product(a: Array, b: Array, out: Array) -> Callable[[], None]:
    """Return a function that writes ``a @ b`` to `out` each time that it is called.

    It calls NumPy's OpenBLAS as NumPy does, but without the half microsecond that NumPy takes to
    get there. Products that are too small for OpenBLAS' threads, but take some microseconds, are
    cut into two blocks of rows, which `fusednn.utils.share_blas_threads` gives to the kernels'
    threads; the last bit of such a product may differ from NumPy's, but not with the number of
    threads. Larger ones, too, are cut while threads are shared, in as many blocks as there are
    threads: their last bits may differ with that number, as those of OpenBLAS' own threads do.
    Left to NumPy is what else there is: another BLAS, other dtypes, vectors (NumPy has a function
    of its own for these), arrays that overlap or whose elements do not lie side by side.

    Parameters
    ----------
    a, b, out : numpy.ndarray
        Matrices. Each may be a view, the transpose of a matrix in C order included; `out` may not.
    """
    found = openblas.products()
    address = None if found is None else found.gemm.get(out.dtype.name)
    usual = (
        a.dtype == b.dtype == out.dtype
        and out.dtype.isnative
        and min(a.shape + b.shape, default=0) > 1
        and all(array.flags.aligned for array in (a, b, out))
        and not (np.may_share_memory(a, out) or np.may_share_memory(b, out))
        and not np.may_share_memory(a, b)
    )
    if found is None or address is None or not usual:
        return cast("Callable[[], None]", partial(np.matmul, a, b, out))
    item = out.dtype.itemsize
    try:
        bound = _core.matrix_product(a, b, out, address, item, found.wide)
    except ValueError:
        return cast("Callable[[], None]", partial(np.matmul, a, b, out))
    return cast("Callable[[], None]", bound)


def both_products(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls both, side by side where both are of `bound_product`.

    The blocks of both then are one list of tasks for the kernels' threads, which meet once instead
    of twice. Neither may read what the other one writes.
    """
    if all(isinstance(product, BuiltinFunctionType) for product in (first, second)):
        return cast("Callable[[], None]", _core.matrix_products(first, second))

    def one_after_the_other() -> None:
        first()
        second()

    return one_after_the_other
