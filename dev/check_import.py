"""Check what ``import fusednn`` costs beyond NumPy's own import, with this interpreter.

The package loads its parts when they are first used, so the bare import alone would show nothing:
the limit holds for the import with every public name looked up, and both are printed. Each run is
a fresh process that imports NumPy first; medians count, as single runs on a shared machine swing.
"""

import argparse
import re
import statistics
import subprocess
import sys

BARE = "import fusednn"
WHOLE = "import fusednn; [getattr(fusednn, name) for name in fusednn.__all__]"
TIMED = "import numpy; from time import perf_counter as now; s = now(); {}; print(now() - s)"
TOO_HEAVY = {"tqdm", "sklearn", "matplotlib", "scipy", "torch", "jax", "keras", "argparse", "csv"}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in a process of its own, away from the checkout's folder."""
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True)


def median_seconds(statement: str, runs: int) -> float:
    """Return the median time of ``statement`` where NumPy is imported already."""
    program = TIMED.format(statement)
    run_python("-c", program)  # reads the files from disk: the first import, not every one
    return statistics.median(float(run_python("-c", program).stdout) for _ in range(runs))


def loaded_modules(statement: str) -> set[str]:
    """Return the names of the modules that are loaded after ``statement``."""
    return set(run_python("-c", f"{statement}; import sys; print(*sys.modules)").stdout.split())


def slowest_imports(count: int = 10) -> list[str]:
    """Return the modules with the largest own time, NumPy's left out."""
    report = run_python("-X", "importtime", "-c", WHOLE).stderr
    rows = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", report)
    own = [(int(us), name) for us, name in rows if name.partition(".")[0] != "numpy"]
    return [f"{us / 1000:8.1f} ms  {name}" for us, name in sorted(own, reverse=True)[:count]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-seconds", type=float, default=0.15)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()

    bare = median_seconds(BARE, arguments.runs)
    whole = median_seconds(WHOLE, arguments.runs)
    heavy = (loaded_modules(WHOLE) - loaded_modules("import numpy")) & TOO_HEAVY
    print(f"check_import: beyond NumPy {bare:.3f} s bare, {whole:.3f} s with every public name;")
    print(f"check_import: must be under {arguments.max_seconds} s")
    for name in sorted(heavy):
        print(f"fusednn loads {name}, which must be imported only where it is used")
    if whole >= arguments.max_seconds:
        print(*slowest_imports(), sep="\n")
    return 1 if heavy or whole >= arguments.max_seconds else 0


if __name__ == "__main__":
    sys.exit(main())
