"""Check what ``import fusednn`` costs beyond NumPy's own import, with this interpreter.

Each run is a fresh process that imports NumPy first, then times fusednn; the median counts, since
single runs on a shared machine swing. Too slow: the most expensive modules are printed.
"""

import argparse
import re
import statistics
import subprocess
import sys

TIMED = "import numpy; from time import perf_counter as t; s = t(); import fusednn; print(t() - s)"
LOADED = "import sys, fusednn; print(*sys.modules)"
TOO_HEAVY = {"tqdm", "sklearn", "matplotlib", "scipy", "torch", "jax", "keras", "argparse", "csv"}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in a process of its own, away from the checkout's folder."""
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def slowest_imports(count: int = 10) -> list[str]:
    """Return the modules with the largest own time, NumPy's left out."""
    report = run_python("-X", "importtime", "-c", "import fusednn").stderr
    rows = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", report)
    own = [(int(us), name) for us, name in rows if name.partition(".")[0] != "numpy"]
    return [f"{us / 1000:8.1f} ms  {name}" for us, name in sorted(own, reverse=True)[:count]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-seconds", type=float, default=0.15)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()

    run_python("-c", TIMED)  # writes the .pyc files: an installation's first import, not every one
    seconds = statistics.median(
        float(run_python("-c", TIMED).stdout) for _ in range(arguments.runs)
    )
    already = set(run_python("-c", "import sys, numpy; print(*sys.modules)").stdout.split())
    heavy = (set(run_python("-c", LOADED).stdout.split()) - already) & TOO_HEAVY
    print(f"check_import: {seconds:.3f} s beyond NumPy, must be under {arguments.max_seconds} s")
    for name in sorted(heavy):
        print(f"import fusednn loads {name}, which must be imported only where it is used")
    if seconds >= arguments.max_seconds:
        print(*slowest_imports(), sep="\n")
    return 1 if heavy or seconds >= arguments.max_seconds else 0


if __name__ == "__main__":
    sys.exit(main())
