"""Check what the compiled library shows to the linker.

``python dev/check_symbols.py BUILD_DIR`` fails unless

- every object of an instruction set's unit (``fusednn_unit_<name>``) keeps its weak and unique
  symbols in ``fusednn::<name>``. The linker merges weak symbols by name: one compiled for AVX-512
  and shared with the baseline is an illegal instruction on the next machine;
- these objects need nothing of C++ but ``fusednn::`` itself, and were built without link time
  optimisation, which would inline across instruction sets;
- ``libfusednn.so`` exports ``fnn_*`` and ``fusednn_abi_version`` alone, needs no symbol of Python,
  and links the C and C++ run-time libraries only; ``libfusednn_xla.so``, where it was built, links
  ``libfusednn.so`` too.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

UNIT_TARGET = re.compile(r"fusednn_unit_(\w+)\.dir")
# Tables, type descriptions, guards and static locals carry their owner's name behind a prefix.
OWNER = r"_Z(?:T[VTISC]|GV|GR|Th\w+?_|Z)*N[rVKRO]*"
RUN_TIME = re.compile(r"(libc|libm|libstdc\+\+|libgcc_s|libpthread|libdl|ld-linux-.*)\.so\b")
OURS = "libfusednn.so"
EXPORTED = re.compile(r"fnn_|fusednn_abi_version$")


def read_symbols(path: Path, *options: str) -> Iterator[tuple[str, str]]:
    """Yield (type letter, mangled name without version) of each symbol that ``nm`` lists."""
    command = ["nm", "--format=posix", *options, str(path)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        name, kind = line.split()[:2]
        yield kind, name.partition("@")[0]


def check_unit(path: Path, unit: str) -> list[str]:
    """Return what is wrong with one object of the instruction set's unit ``unit``."""
    in_unit = re.compile(rf"{OWNER}7fusednn{len(unit)}{unit}")
    in_project = re.compile(rf"{OWNER}7fusednn")
    problems = []
    if b".gnu.lto_" in path.read_bytes():
        problems.append(f"{path}: built with link time optimisation")
    for kind, name in read_symbols(path):
        if kind in "WVu" and not in_unit.match(name):
            problems.append(f"{path}: weak symbol outside fusednn::{unit}: {name}")
        is_cplusplus = name.startswith(("_Z", "__cxa_", "__gxx_"))
        if kind in "Uwv" and is_cplusplus and not in_project.match(name):
            problems.append(f"{path}: needs a C++ run-time symbol: {name}")
    return problems


def check_library(path: Path) -> list[str]:
    """Return what is wrong with the dynamic symbols and dependencies of one of our libraries."""
    exported = [name for _, name in read_symbols(path, "--dynamic", "--defined-only")]
    needed = [name for _, name in read_symbols(path, "--dynamic", "--undefined-only")]
    dynamic = subprocess.run(
        ["readelf", "--dynamic", "--wide", str(path)], check=True, capture_output=True, text=True
    ).stdout
    libraries = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)

    problems = [f"{path}: exports {name}" for name in exported if not EXPORTED.match(name)]
    problems += [f"{path}: needs Python's {n}" for n in needed if re.match(r"_?Py[A-Z_]", n)]
    problems += [f"{path}: links {n}" for n in libraries if not RUN_TIME.match(n) and n != OURS]
    if not exported:
        problems.append(f"{path}: exports nothing")
    return problems


def check_build(build_dir: Path) -> tuple[list[str], str]:
    """Return the problems of a build directory, and a line that says what was looked at."""
    units = [
        (path, match[1])
        for path in sorted(build_dir.rglob("*.o"))
        if (match := UNIT_TARGET.search(str(path.relative_to(build_dir))))
    ]
    libraries = sorted(build_dir.rglob("libfusednn.so"))
    handlers = sorted(build_dir.rglob("libfusednn_xla.so"))
    problems = [problem for path, unit in units for problem in check_unit(path, unit)]
    problems += [problem for path in libraries + handlers for problem in check_library(path)]
    if not units:
        problems.append(f"{build_dir}: no object of a fusednn_unit_<name> target")
    if not libraries:
        problems.append(f"{build_dir}: no libfusednn.so")
    names = ", ".join(sorted({unit for _, unit in units}))
    count = len(libraries + handlers)
    return problems, f"{len(units)} objects of the units [{names}], {count} libraries"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("build_dir", type=Path)
    problems, seen = check_build(parser.parse_args().build_dir)
    for problem in problems:
        print(problem)
    print(f"check_symbols: {seen}; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
