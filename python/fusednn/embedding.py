"""Where C and C++ programs find the header, the library and the CMake package.

They lie inside the installed package: ``python -m fusednn --includes``, ``--libs`` and
``--cmakedir`` print them for build scripts.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def _existing(relative: str, what: str) -> str:
    path = _PACKAGE / relative
    if not path.exists():
        raise FileNotFoundError(
            f"{what} must be at {path}, which does not exist: only an installed fusednn has it, "
            "this one runs from its sources"
        )
    return str(path)


def get_include() -> str:
    """Return the folder of ``fusednn/fusednn.h``, as `numpy.get_include` does.

    Returns
    -------
    str
        For the compiler's option ``-I``.

    Raises
    ------
    FileNotFoundError
        If fusednn is not installed but runs from its sources.
    """
    _existing("include/fusednn/fusednn.h", "the header")
    return str(_PACKAGE / "include")


def get_library_dir() -> str:
    """Return the folder of ``libfusednn.so``.

    Returns
    -------
    str
        For the linker's options ``-L`` and ``-rpath``.

    Raises
    ------
    FileNotFoundError
        If fusednn is not installed but runs from its sources.
    """
    _existing("lib/libfusednn.so", "the library")
    return str(_PACKAGE / "lib")


def get_cmake_dir() -> str:
    """Return the folder of ``fusednn-config.cmake``.

    Returns
    -------
    str
        For CMake's variable ``fusednn_DIR``. ``find_package(fusednn)`` brings the target
        ``fusednn::fusednn``.

    Raises
    ------
    FileNotFoundError
        If fusednn is not installed but runs from its sources.
    """
    _existing("lib/cmake/fusednn/fusednn-config.cmake", "the CMake package")
    return str(_PACKAGE / "lib/cmake/fusednn")


def compile_flags() -> str:
    """Return the compiler's options: ``-I...``."""
    return f"-I{get_include()}"


def link_flags() -> str:
    """Return the linker's options; the program finds the library where it is installed."""
    folder = get_library_dir()
    return f"-L{folder} -Wl,-rpath,{folder} -lfusednn"
