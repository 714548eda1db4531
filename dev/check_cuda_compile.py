"""Compile all CUDA kernels for one architecture: no warnings, no register spills in kernels.

``python dev/check_cuda_compile.py [--arch sm_90] [--jobs 2] [NAME.cu ...]``; nvcc comes from PATH,
or from the packages of the dependency group `nvcc` in this Python's environment. Nothing is linked
or run.
"""

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
    return str(nvcc), [f"-I{nvcc.parents[1] / 'include'}"]


def demangled(names: list[str]) -> dict[str, str]:
    """Return readable names, as far as c++filt is there."""
    if not names or not shutil.which("c++filt"):
        return {name: name for name in names}
    said = subprocess.run(["c++filt", *names], capture_output=True, text=True, check=True)
    return dict(zip(names, said.stdout.splitlines(), strict=True))


def compile_one(
    nvcc: str, options: list[str], source: Path, folder: Path, arch: str
) -> tuple[str, bool]:
    """Compile one file; return what is to be said of it, and whether all is well."""
    command = [
        *(nvcc, "-std=c++20", f"-arch={arch}", "-fmad=false", "--expt-relaxed-constexpr"),
        *(f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc/include'}", *options),
        *("-Werror", "all-warnings", "-Xptxas", "-v", "-Xcompiler", "-Wall,-Wextra,-fPIC"),
        *("-c", str(source), "-o", str(folder / f"{source.stem}.o")),
    ]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"{source.name}: nvcc failed\n{done.stdout}{done.stderr}", False
    kernel, most, kernels, spilling = "", 0, 0, {}
    for line in done.stderr.splitlines():
        if found := KERNEL.search(line):
            kernel, kernels = found[1], kernels + 1
        elif (found := SPILLS.search(line)) and (int(found[2]) or int(found[3])):
            spilling[kernel] = found[0]
        elif found := REGISTERS.search(line):
            most = max(most, int(found[1]))
    names = demangled(list(spilling))
    seconds = time.monotonic() - start
    said = f"{source.name}: {kernels} kernels, {most} registers at most, {seconds:.0f} s"
    said += "".join(f"\n  {names[k]}: {spills}" for k, spills in spilling.items())
    return said, not spilling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
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
    if not good:
        sys.exit("warnings, errors or spills: see above")


if __name__ == "__main__":
    main()
