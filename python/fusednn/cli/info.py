"""Report version, instruction set, threads, CUDA and GPUs."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform

_THREADS_FROM = {
    "affinity": "the CPUs that this process may use",
    "set_num_threads": "fusednn.set_num_threads",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fusednn info``."""
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the report, one line a fact."""
    for name, value in facts().items():
        print(f"{name:16}{value}")


def _gpus() -> dict[str, str]:
    """Return a line for each GPU, CUDA's and CuPy's versions; what is missing, and from where."""
    from fusednn import _core

    found: dict[str, str] = {}
    try:
        driver, runtime = _core.cuda_versions()
        supported = f"supports CUDA {_release(driver)}" if driver else "not found"
        found["CUDA driver"] = f"{supported}; the kernels have the runtime of {_release(runtime)}"
        for device in range(_core.cuda_device_count()):
            name, capability, multiprocessors, memory = _core.cuda_describe(device)
            found[f"cuda:{device}"] = (
                f"{name}, capability {capability // 10}.{capability % 10}, "
                f"{multiprocessors} multiprocessors, {memory / 2**30:.1f} GiB"
            )
    except RuntimeError as error:
        if not found:
            found["CUDA driver"] = _driver()
        found["GPU"] = f"none that can be used: {error}"
        if _core.cuda_build() == "OFF" and not os.environ.get("FUSEDNN_CUDA_LIBRARY"):
            found["GPU"] += "; build them from source: pip install -Ccmake.define.FUSEDNN_CUDA=ON ."
    return found | {"CuPy": _cupy()}


def _driver() -> str:
    """Return what CUDA the driver supports, asked without the kernels."""
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return "not found: install NVIDIA's"
    return f"supports CUDA {_release(version.value)}"


def _cupy() -> str:
    """Return CuPy's version, or why models cannot use it."""
    try:
        import cupy
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            return "not installed; models on a GPU need it: pip install 'fusednn[cuda]'"
        return f"cannot be imported: {' '.join(str(error).split())}"
    return str(cupy.__version__)


def _release(version: int) -> str:
    """Return a version of CUDA as people write it: 13000 is 13.0."""
    return f"{version // 1000}.{version % 1000 // 10}"


def facts() -> dict[str, str]:
    """Return what the report says: names and values, in its order."""
    import fusednn
    from fusednn import openblas

    build = fusednn.build_info()
    forced = " (FUSEDNN_FORCE_ISA)" if os.environ.get("FUSEDNN_FORCE_ISA") else ""
    source = fusednn.num_threads_source()
    cuda = "built" if build["cuda"] == "ON" else "not built"
    return {
        "fusednn": build["version"],
        "instruction set": f"{fusednn.instruction_set()}{forced}",
        "available": ", ".join(fusednn.instruction_sets()),
        "threads": f"{fusednn.get_num_threads()} (from {_THREADS_FROM.get(source, source)})",
        "CUDA": f"{cuda}: {build['cuda_reason']}",
        **_gpus(),
        "compiler": build["compiler"],
        "Python": build["python"],
        "NumPy": build["numpy"],
        "BLAS of NumPy": openblas.description(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
