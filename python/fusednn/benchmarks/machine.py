"""What a run ran on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Return processor, CPUs that this process may use, bytes of caches and memory, system."""
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "caches": cache_sizes(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cache_sizes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Return the bytes of one L2 and one L3 as Linux lists them; usual sizes where it does not."""
    sizes = {"L2": 1 << 20, "L3": 1 << 25}
    for index in sorted(root.glob("index*")):
        try:
            level = "L" + (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()  # for example 1024K
        except OSError:
            continue
        if level in sizes and size.endswith("K"):
            sizes[level] = int(size[:-1]) << 10
    return sizes


def own_versions() -> dict[str, str]:
    """Return the versions of fusednn, its instruction set and compiler, Python and NumPy's BLAS."""
    import fusednn
    from fusednn import openblas

    build = fusednn.build_info()
    return {
        "fusednn": build["version"],
        "instruction set": fusednn.instruction_set(),
        "compiler": build["compiler"],
        "python": build["python"],
        "BLAS of NumPy": openblas.description(),
    }


def commit() -> str:
    """Return the commit of the sources that are imported, ``+`` where they were changed.

    Of a checkout git tells; an installed package has it from its build (`cmake/commit.cmake`).
    "unknown" where the sources were no checkout either.
    """
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "machine.py")
        changed = git("status", "--porcelain", "--untracked-files=no", ":/csrc", ":/python")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return built_from(here.parent / "commit.txt")


def built_from(file: Path) -> str:
    """Return the commit that a build wrote down."""
    try:
        return file.read_text().strip() or "unknown"
    except OSError:
        return "unknown"
