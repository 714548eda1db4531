"""How many threads a training run uses: the kernels', and those of NumPy's matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Multiply-adds of a matrix product that takes one thread some tenths of a millisecond. Below, a
# second thread saves little, and where another process wants its core, waiting costs far more.
SMALL_PRODUCT = 1 << 22


@contextmanager
def training_threads(count: int | None, largest_product: int) -> Iterator[None]:
    """Set the threads inside the ``with`` block.

    Parameters
    ----------
    count
        Threads of the kernels and of the matrix products; None: the kernels' default, and one for
        the products if all of them are small, else the kernels' own.
    largest_product
        Multiply-adds of the largest matrix product.

    Notes
    -----
    The products run on the kernels' threads where NumPy's BLAS allows it (see
    `fusednn.utils.share_blas_threads`). Else, and where they are small, they are reached through
    threadpoolctl; without it they keep their default.
    """
    import fusednn

    small = count is None and largest_product < SMALL_PRODUCT
    before = fusednn.get_num_threads()
    if count is not None:
        fusednn.set_num_threads(count)
    try:
        with _limited_products(1) if small else _shared_products(count):
            yield
    finally:
        if fusednn.get_num_threads() != before:
            fusednn.set_num_threads(before)


@contextmanager
def _shared_products(count: int | None) -> Iterator[None]:
    from fusednn.blas_threads import shared_blas_threads

    with shared_blas_threads() as shared, _limited_products(None if shared else count):
        yield


@contextmanager
def _limited_products(count: int | None) -> Iterator[None]:
    if count is None:
        yield
        return
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        yield
        return
    with threadpool_limits(count, user_api="blas"):
        yield
