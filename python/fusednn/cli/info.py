"""Report version, instruction set, threads and CUDA."""

from __future__ import annotations

import argparse
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


def facts() -> dict[str, str]:
    """Return what the report says: names and values, in its order."""
    import fusednn

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
        "compiler": build["compiler"],
        "Python": build["python"],
        "NumPy": build["numpy"],
        "machine": f"{platform.system()} {platform.machine()}",
    }
