"""Compile all CUDA kernels for one architecture: no warnings, no spills, PTX as it must be.

``python dev/check_cuda_compile.py [--arch sm_90] [--jobs 2] [NAME.cu ...]``; nvcc comes from PATH,
or from the packages of the dependency group `nvcc` in this Python's environment. With `--load` the
objects of csrc/cuda are linked into a library, which the installed package must load: on a machine
without a driver it says that there is none.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whoever imports this finds its neighbours

import ptx

ROOT = Path(__file__).parents[1]
KERNEL = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def find_nvcc() -> tuple[str, list[str]]:
    """Return the compiler's path, and the options it needs there."""
    on_path = shutil.which("nvcc")
    if on_path:
        return on_path, []
    try:
        files = metadata.files("nvidia-cuda-nvcc") or []
    except metadata.PackageNotFoundError:
        sys.exit("nvcc is neither on PATH nor installed: pip install --group nvcc")
    found = next(f.locate() for f in files if f.name == "nvcc" and f.parent.name == "bin")
    nvcc = Path(str(found))
    nvcc.chmod(nvcc.stat().st_mode | 0o111)
    root = nvcc.parents[1]  # where nvcc itself looks for lib64
    return str(nvcc), [f"-I{root / 'include'}", f"-L{root / 'lib'}"]


def demangled(names: list[str]) -> dict[str, str]:
    """Return readable names, as far as c++filt is there."""
    if not names or not shutil.which("c++filt"):
        return {name: name for name in names}
    said = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    return dict(zip(names, said.stdout.splitlines(), strict=True))


def find_spills(said: str) -> dict[tuple[str, str], str]:
    """Return what ptxas said of each kernel and architecture whose registers it spilled."""
    kernel, spilling = ("", ""), {}
    for line in said.splitlines():
        if found := KERNEL.search(line):
            kernel = (found[1], found[2])
        elif (found := SPILLS.search(line)) and (int(found[2]) or int(found[3])):
            spilling[kernel] = found[0]
    return spilling


def compile_one(
    nvcc: str, options: list[str], source: Path, folder: Path, arch: str
) -> tuple[str, bool]:
    """Compile one file; return what is to be said of it, and whether all is well."""
    command = [
        *(nvcc, "-std=c++20", f"-arch={arch}", "-fmad=false", "--expt-relaxed-constexpr"),
        *(f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}", *options),
        *("-Werror", "all-warnings", "-Xptxas", "-v", "-Xcompiler", "-Wall,-Wextra,-fPIC"),
        *("--compress-mode=size", f'-DFNN_CUDA_ARCHITECTURES="{arch}"'),
        *("-c", str(source), "-o", str(folder / f"{source.stem}.o")),
    ]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"{source.name}: nvcc failed\n{done.stdout}{done.stderr}", False
    kernels = len(KERNEL.findall(done.stderr))
    most = max(map(int, REGISTERS.findall(done.stderr)), default=0)
    spilling = find_spills(done.stderr)
    names = demangled([kernel for kernel, _ in spilling])
    seconds = time.monotonic() - start
    said = f"{source.name}: {kernels} kernels, {most} registers at most, {seconds:.0f} s"
    said += "".join(f"\n  {names[k]}: {spills}" for (k, _), spills in spilling.items())
    return said, not spilling


def check_ptx(nvcc: str, options: list[str], source: Path, folder: Path, arch: str) -> list[str]:
    """Return what is wrong with the PTX of a file's kernels (`ptx.py`)."""
    output = folder / f"{source.stem}.{arch}.ptx"
    command = [
        *(nvcc, "-std=c++20", f"-arch={arch}", "-fmad=false", "--expt-relaxed-constexpr", "-ptx"),
        *(f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}", *options),
        *(f'-DFNN_CUDA_ARCHITECTURES="{arch}"', str(source), "-o", str(output)),
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return [f"{source.name} for {arch}: nvcc failed\n{made.stdout}{made.stderr}"]
    wrong = ptx.problems(output.read_text())
    names = demangled(list(wrong))
    return [f"{names[kernel]} for {arch}: {said}" for kernel in wrong for said in wrong[kernel]]


def load(nvcc: str, options: list[str], objects: list[Path], folder: Path, arch: str) -> str:
    """Link a library and let the package load it; return what is wrong with it, or nothing."""
    library = folder / "libfusednn_cuda.so"
    command = [nvcc, "-shared", "-cudart", "static", f"-arch={arch}", "-o", str(library), *options]
    linked = subprocess.run([*command, *map(str, objects)], capture_output=True, text=True)
    if linked.returncode != 0:
        return f"nvcc could not link\n{linked.stdout}{linked.stderr}"
    size = library.stat().st_size
    told = subprocess.run(
        [sys.executable, "-m", "fusednn", "info"],
        env=os.environ | {"FUSEDNN_CUDA_LIBRARY": str(library)},
        capture_output=True,
        text=True,
    )
    facts = [line for line in told.stdout.splitlines() if line.startswith(("CUDA driver", "GPU"))]
    print(f"{library.name}: {size / 1e6:.2f} MB", *facts, sep="\n", flush=True)
    has_driver = shutil.which("nvidia-smi") is not None
    if not facts or not (has_driver or "no NVIDIA driver was found" in facts[-1]):
        return f"the package did not load the library\n{told.stdout}{told.stderr}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--load", action="store_true", help="link, and let the package load it")
    parser.add_argument("sources", nargs="*", type=Path, help="instead of csrc/cuda and benchmarks")
    arguments = parser.parse_args()
    kernels = sorted((ROOT / "csrc/cuda").glob("*.cu"))
    sources = arguments.sources or [*kernels, ROOT / "benchmarks/gpu/questions.cu"]
    if not kernels:
        sys.exit("there is no csrc/cuda/*.cu")
    nvcc, options = find_nvcc()
    print(f"{nvcc} for {arguments.arch}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        results = pool.map(
            lambda source: compile_one(nvcc, options, source, Path(folder), arguments.arch), sources
        )
        good = True
        for said, is_good in results:
            print(said, flush=True)
            good &= is_good
        # The oldest GPUs lack conversions, which their kernels do otherwise.
        archs = sorted({"compute_75", arguments.arch.replace("sm_", "compute_")})
        asked = [(source, arch) for source in kernels for arch in archs]
        checked = pool.map(lambda a: check_ptx(nvcc, options, a[0], Path(folder), a[1]), asked)
        wrong_ptx = [said for each in checked for said in each]
        print(f"PTX for {' and '.join(archs)}:", *(wrong_ptx or ["as it must be"]), sep="\n  ")
        good &= not wrong_ptx
        if good and arguments.load:
            objects = [Path(folder) / f"{source.stem}.o" for source in kernels]
            wrong = load(nvcc, options, objects, Path(folder), arguments.arch)
            if wrong:
                sys.exit(wrong)
    if not good:
        sys.exit("warnings, errors, spills or PTX: see above")


if __name__ == "__main__":
    main()
