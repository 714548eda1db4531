"""The norm of a list of arrays, as clipping takes it."""

from collections.abc import Sequence

from fusednn import _core
from fusednn.ops.arrays import Array


def global_norm(arrays: Sequence[Array]) -> float:
    """L2 norm over all elements of all arrays, accumulated in double precision.

    Parameters
    ----------
    arrays : list of ndarray
        Of any shapes and supported dtypes; may be empty (0.0).

    Returns
    -------
    float

    Raises
    ------
    TypeError
        For an array type or dtype that is not supported.
    """
    return _core.global_norm(arrays)
