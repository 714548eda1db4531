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
        the products if all of them are small, else NumPy's default.
    largest_product
        Multiply-adds of the largest matrix product.

    Notes
    -----
    NumPy's products are reached through threadpoolctl; without it they keep their default.
    """
    import fusednn

    before = fusednn.get_num_threads()
    if count is not None:
        fusednn.set_num_threads(count)
    elif largest_product < SMALL_PRODUCT:
        count = 1
    try:
        with _product_threads(count):
            yield
    finally:
        if fusednn.get_num_threads() != before:
            fusednn.set_num_threads(before)


@contextmanager
def _product_threads(count: int | None) -> Iterator[None]:
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
