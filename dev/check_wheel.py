"""Check a wheel: its size, that no part is missing, that no source or test is in it."""

import argparse
import fnmatch
import sys
from pathlib import Path
from zipfile import ZipFile

MAX_BYTES = 1_500_000  # of a wheel without CUDA kernels
MAX_JAX_BYTES = 40_000  # of libfusednn_xla.so, compressed
MAX_CUDA_BYTES = 3_000_000  # of libfusednn_cuda.so for all its architectures, stripped
CUDA_LIBRARY = "*libfusednn_cuda.so"
JAX_LIBRARY = "fusednn/**libfusednn_xla.so"
REQUIRED = [
    "fusednn/__init__.py",
    "fusednn/py.typed",
    "fusednn/_core.pyi",
    "fusednn/_core*.so",
    "fusednn/**libfusednn.so",
    "fusednn/**include/fusednn/fusednn.h",
    "*.dist-info/licenses/LICENSE",
]
FORBIDDEN = ["*.cpp", "*.cu", "*.o", "*.a", "*.pyc", "tests/*", "csrc/*", "dev/*"]


def check_contents(names: list[str], required: list[str] = REQUIRED) -> list[str]:
    """Return what is missing from, or should not be in, a wheel with these members."""
    missing = [f"lacks {p}" for p in required if not fnmatch.filter(names, p)]
    return missing + [f"holds {name}" for p in FORBIDDEN for name in fnmatch.filter(names, p)]


def check_wheel(
    path: Path,
    max_bytes: int = MAX_BYTES,
    max_cuda_bytes: int = MAX_CUDA_BYTES,
    *,
    handlers: bool = False,
) -> list[str]:
    """Return everything that is wrong with the wheel at ``path``.

    Of one that has JAX's `handlers` their size is judged, as that of all else is without them.
    """
    with ZipFile(path) as wheel:
        members = wheel.infolist()
    names = [member.filename for member in members]
    problems = check_contents(names, [*REQUIRED, JAX_LIBRARY] if handlers else REQUIRED)
    of_cuda = [m for m in members if fnmatch.fnmatch(m.filename, CUDA_LIBRARY)]
    problems += [
        f"holds {member.filename} of {member.file_size:,} bytes, must be under {max_cuda_bytes:,}"
        for member in of_cuda
        if member.file_size >= max_cuda_bytes
    ]
    if handlers:
        of_jax = [m for m in members if fnmatch.fnmatch(m.filename, JAX_LIBRARY)]
        return problems + [
            f"holds {m.filename} of {m.compress_size:,} bytes, must be under {MAX_JAX_BYTES:,}"
            for m in of_jax
            if m.compress_size >= MAX_JAX_BYTES
        ]
    # Its kernels are compressed already.
    size = path.stat().st_size - sum(member.compress_size for member in of_cuda)
    if size >= max_bytes:
        without = " without its CUDA kernels" if of_cuda else ""
        problems.append(f"is {size:,} bytes{without}, must be under {max_bytes:,}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--handlers", action="store_true", help="those for JAX must be in it")
    options = parser.parse_args()
    wheel = options.wheel
    problems = check_wheel(wheel, handlers=options.handlers)
    for problem in problems:
        print(f"{wheel.name} {problem}")
    print(f"check_wheel: {wheel.name}, {wheel.stat().st_size:,} bytes; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
