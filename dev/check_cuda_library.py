"""Build libfusednn_cuda.so for all its architectures: its size and time, warnings, spills.

``python dev/check_cuda_library.py [LIBRARY]``: builds with CMake and Ninja, as ``FUSEDNN_CUDA=ON``
does, unless a library is given, of which only the size is checked. Tells what the build takes.
Needs no GPU.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whoever imports this finds its neighbours

from check_cuda_compile import ROOT, demangled, find_nvcc, find_spills
from check_wheel import MAX_CUDA_BYTES

#: Six minutes on two cores. What others do changes the clock's time, hardly this one.
MAX_CPU_SECONDS = 2 * 6 * 60.0


def build(folder: Path) -> tuple[Path, str]:
    """Return the library's path and what the compiler said; end where it failed."""
    nvcc, options = find_nvcc()
    configure = [
        *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
        *("-DFUSEDNN_CUDA=ON", "-DFUSEDNN_PYTHON=OFF", "-DFUSEDNN_WERROR=ON"),
        "-DCMAKE_CUDA_FLAGS=-Xptxas=-v",
    ]
    said = ""
    for command in (configure, ["cmake", "--build", str(folder), "--target", "fusednn_cuda"]):
        done = subprocess.run(
            command,
            env={**os.environ, "CUDACXX": nvcc, "NVCC_APPEND_FLAGS": " ".join(options)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        said += done.stdout
        if done.returncode != 0:
            sys.exit(said)
    return next(folder.rglob("libfusednn_cuda.so")), said


def check_time(cpu: float, most: float = MAX_CPU_SECONDS) -> list[str]:
    """Return what is wrong with the processor time that compiling took."""
    return [f"took {cpu:.0f} s of CPU to build, must be under {most:.0f}"] if cpu >= most else []


def check_size(library: Path, max_bytes: int = MAX_CUDA_BYTES) -> list[str]:
    """Return what is wrong with the library's size, without the symbols that no wheel holds."""
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / library.name
        subprocess.run(["strip", "-o", str(stripped), str(library)], check=True)
        size = stripped.stat().st_size
    print(f"{library.name}: {size:,} bytes")
    return [f"is {size:,} bytes, must be under {max_bytes:,}"] if size >= max_bytes else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", type=Path, nargs="?", help="instead of building one")
    library = parser.parse_args().library
    problems = []
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    try:
        if library is None:
            library, said = build(folder)
            # Of the processes that it started: what others do on the machine does not count.
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = used.ru_utime + used.ru_stime
            elapsed = time.monotonic() - start
            print(f"built in {elapsed:.0f} s, {cpu:.0f} s of CPU: {cpu / 2:.0f} s on two cores")
            spills = find_spills(said)
            names = demangled([kernel for kernel, _ in spills])
            problems = [f"{names[k]} for {arch}: {s}" for (k, arch), s in spills.items()]
            problems += check_time(cpu)
        problems += check_size(library)
    finally:
        shutil.rmtree(folder)
    if problems:
        sys.exit("\n".join(f"libfusednn_cuda.so: {problem}" for problem in problems))


if __name__ == "__main__":
    main()
