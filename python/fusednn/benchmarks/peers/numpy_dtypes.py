"""The dtypes that plain NumPy is asked to compute in."""

from fusednn.benchmarks.case import Case
from fusednn.benchmarks.inputs import UnavailableError


def refuse_short(case: Case) -> None:
    """Refuse what NumPy has only as conversions, element by element.

    Raises
    ------
    UnavailableError
        For bfloat16 and float16.
    """
    if case.dtype in ("bfloat16", "float16"):
        raise UnavailableError(f"NumPy's {case.dtype} is a conversion of each element")
