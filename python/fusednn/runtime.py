"""The library itself: threads, instruction sets, how it was built."""

from fusednn import _core

__version__ = _core.version()


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels use.

    Obeyed as given, also beyond the number of cores. The default is ``FUSEDNN_NUM_THREADS``, obeyed
    as given; else ``OMP_NUM_THREADS``; else the number of cores, the last two capped by the
    process's affinity.

    Parameters
    ----------
    n : int
        From 1 to 4096.

    Raises
    ------
    ValueError
        For another number.
    """
    _core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that kernels use."""
    return _core.get_num_threads()


def instruction_set() -> str:
    """Return the instruction set in use: the best available, or ``FUSEDNN_FORCE_ISA``."""
    return _core.instruction_set()


def instruction_sets() -> list[str]:
    """Return the instruction sets that this machine can run, the best first.

    All of them give the same bits.
    """
    return _core.instruction_sets()


def num_threads_source() -> str:
    """Return where the number of threads came from.

    Returns
    -------
    str
        "set_num_threads", "FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS" or "affinity".
    """
    return _core.num_threads_source()


def build_info() -> dict[str, str]:
    """Tell how the library was built and what it runs on.

    Returns
    -------
    dict
        ``version``; ``compiler``; ``cuda``, "ON" or "OFF", and ``cuda_reason``; ``python`` and
        ``numpy``, versions.
    """
    import platform

    import numpy as np

    return {
        "version": __version__,
        "compiler": _core.compiler(),
        "cuda": _core.cuda_build(),
        "cuda_reason": _core.cuda_reason(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
