"""The library of handlers, `libfusednn_xla.so`, and their registration with XLA.

It is built where jaxlib's headers are; it loads with every jaxlib whose interface is not older than
that of these headers. A handler that XLA refuses is an error of its start, too late for an import:
versions are compared before.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from fusednn import __version__, _core

try:
    import jax
    import jax.export
    import jax.ffi
    import jaxlib
except ImportError as error:
    raise ImportError(
        "fusednn.jax needs the package jax, which could not be imported: "
        f"{error}. `pip install jax` brings it"
    ) from error

NAMES = (
    "leaky_relu",
    "leaky_relu_backward",
    "batch_norm_forward",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "batch_norm_statistics",
    "batch_norm_merge",
    "batch_norm_apply",
    "batch_norm_backward_reduce",
    "batch_norm_backward_apply",
    "optimizer_step",
)
OLDEST_JAX = (0, 8)


def library_path() -> Path:
    """Return where the library lies; refuse to go on where this build has none."""
    # Beside libfusednn.so: in lib/ where the package is installed, else beside the sources.
    package = Path(_core.__file__).parent
    for folder in (package / "lib", package):
        path = folder / "libfusednn_xla.so"
        if path.exists():
            return path
    raise ImportError(
        f"fusednn.jax needs libfusednn_xla.so in {package / 'lib'}, and this fusednn {__version__} "
        "was built without it, as no headers of jaxlib were found. Build it with them: pip install "
        "-Ccmake.define.FUSEDNN_JAX_INCLUDE=$(python -c 'import jax; print(jax.ffi.include_dir())')"
        " and the path of fusednn's sources"
    )


def interface_of_jaxlib() -> tuple[int, ...]:
    """Return the version of XLA's foreign function interface in the jaxlib that is installed."""
    header = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
    text = header.read_text(encoding="utf-8")
    found = (re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR"))
    return tuple(int(match[1]) for match in found if match)


def check_interface(built: tuple[int, ...], installed: tuple[int, ...]) -> None:
    """Refuse handlers that this jaxlib does not take: it would fail later, and all of JAX with it.

    It takes those of its own version and of earlier minor ones.
    """
    if built[:1] == installed[:1] and built <= installed:
        return
    ours, theirs = (".".join(map(str, version)) for version in (built, installed))
    raise ImportError(
        f"fusednn.jax was built for version {ours} of XLA's foreign function interface, and jaxlib "
        f"{jaxlib.__version__} has {theirs}. Install a jaxlib that has {ours} or a later minor "
        "version, or build fusednn with the headers of this one (FUSEDNN_JAX_INCLUDE)"
    )


def register() -> None:
    """Load the library and make its handlers known to XLA, for the CPU and for CUDA."""
    if jax.version.__version_info__ < OLDEST_JAX:
        raise ImportError(
            f"fusednn.jax needs jax {'.'.join(map(str, OLDEST_JAX))} or later. "
            f"Received: jax {jax.__version__}"
        )
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"fusednn.jax could not load {path}: {error}") from error
    check_interface(divmod(library.fnn_xla_api_version(), 1000), interface_of_jaxlib())
    for name in NAMES:
        for device, platform in (("cpu", "cpu"), ("cuda", "CUDA")):
            capsule = jax.ffi.pycapsule(getattr(library, f"fnn_xla_{name}_{device}"))
            jax.ffi.register_ffi_target(f"fusednn_{name}", capsule, platform=platform)


def export_checks() -> list[Any]:
    """Return what `jax.export.export` needs as `disabled_checks` for programs that call kernels.

    JAX serializes calls of its own functions alone, as it promises that later releases read them,
    unless told by name that others are meant. What calls kernels runs where the release of
    `fusednn.jax` that it was made with is imported.

    Returns
    -------
    list of jax.export.DisabledSafetyCheck

    Examples
    --------
    >>> import jax
    >>> import fusednn.jax as fj
    >>> function = jax.jit(fj.leaky_relu)
    >>> shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 3"), "float32")
    >>> program = jax.export.export(function, disabled_checks=fj.export_checks())(shape)
    >>> program.call(jax.numpy.ones((2, 3))).shape
    (2, 3)
    """
    return [jax.export.DisabledSafetyCheck.custom_call(f"fusednn_{name}") for name in NAMES]
