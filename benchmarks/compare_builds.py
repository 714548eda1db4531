"""Time BatchNorm's kernels of several builds of libfusednn.so in turns, beside memory's own speed.

For those who change a kernel: ``fusednn bench`` compares with other packages, this a build with the
one before it. Everything goes through the C API, so that no Python module has to be built:

    cmake -B build/a -G Ninja -DCMAKE_BUILD_TYPE=Release && ninja -C build/a
    python benchmarks/compare_builds.py build/a/libfusednn.so build/b/libfusednn.so

Each line is a function: the median time of every build and, in brackets, that over the roof of the
same turns: a non-temporal copy for what reads one array and writes one, two arrays read and one
written for backward, the array read for statistics.
"""

import argparse
import ctypes
import functools
import mmap
import statistics
import time
from collections.abc import Callable

import numpy as np

DTYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}
BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
PAGE = 2 << 20


class Tensor(ctypes.Structure):
    """fnn_tensor of fusednn/fusednn.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    ]


class Options(ctypes.Structure):
    """fnn_batch_norm_options."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("channel_axis", ctypes.c_int64),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
        ("negative_slope", ctypes.c_double),
        ("unbiased_running_var", ctypes.c_int32),
    ]


def memory(size: int) -> np.ndarray:
    """Return `size` bytes on a boundary of 2 MiB, which may then lie on large pages."""
    mapped = mmap.mmap(-1, size + PAGE)
    mapped.madvise(mmap.MADV_HUGEPAGE)
    block = np.frombuffer(mapped, np.uint8)
    start = -block.ctypes.data % PAGE
    return block[start : start + size]


def tensor(block: np.ndarray, shape: tuple[int, ...], dtype: int) -> Tensor:
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    return Tensor(block.ctypes.data, sizes, None, len(shape), dtype, 0, 0, 0)


def fill(block: np.ndarray, dtype: str, seed: int) -> None:
    """Write normal numbers of `dtype` into the block."""
    rng = np.random.default_rng(seed)
    kind = np.float32 if dtype == "bfloat16" else np.dtype(dtype)
    numbers = rng.standard_normal(1 << 16).astype(kind)
    if dtype == "bfloat16":
        numbers = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    of_numbers = block.view(numbers.dtype)
    for start in range(0, of_numbers.size, numbers.size):
        of_numbers[start : start + numbers.size] = numbers[: of_numbers.size - start]


class Build:
    """A library with calls on one set of arrays."""

    def __init__(self, path: str, threads: int) -> None:
        self.path = path
        self.library = ctypes.CDLL(path)
        self.library.fnn_last_error.restype = ctypes.c_char_p
        self.call("set_num_threads", threads)

    def call(self, function: str, *arguments: object) -> None:
        if getattr(self.library, f"fnn_{function}")(*arguments) != 0:
            raise SystemExit(f"{self.path}: {function}: {self.library.fnn_last_error().decode()}")


class Work:
    """Arrays, and calls on them: by name, the roof that one is compared with and the call."""

    def __init__(self, shape: tuple[int, ...], axis: int, dtype: str) -> None:
        size = int(np.prod(shape)) * BYTES[dtype]
        self.blocks = {name: memory(size) for name in ("x", "grad", "y", "grad_x")}
        fill(self.blocks["x"], dtype, 0)
        fill(self.blocks["grad"], dtype, 1)
        channel_type = "float64" if dtype == "float64" else "float32"
        values = {"gamma": 1.0, "beta": 0.1, "mean": 0.0, "inv_std": 1.0, "first": 0, "second": 0}
        self.vectors = {
            name: np.full(shape[axis], value, channel_type) for name, value in values.items()
        }
        self.options = Options(ctypes.sizeof(Options), axis, 1e-5, 0.1, 0.1, 1)

        full = {n: tensor(block, shape, DTYPES[dtype]) for n, block in self.blocks.items()}
        vector = {
            n: tensor(array, array.shape, DTYPES[channel_type]) for n, array in self.vectors.items()
        }
        by = ctypes.byref
        x, grad, y, grad_x = (by(t) for t in full.values())
        gamma, beta, mean, inv_std, first, second = (by(t) for t in vector.values())
        o = by(self.options)
        count = by(ctypes.c_int64())
        given = (gamma, beta, mean, inv_std)
        none = None, None
        self.calls = {
            **self.roofs(size),
            "forward": ("copy", "batch_norm_forward", x, gamma, beta, *none, o, y, first, second),
            "inference": ("copy", "batch_norm_inference", x, *given, o, y),
            "statistics": ("read", "batch_norm_statistics", x, o, first, second, count),
            "backward": (
                *("two read, one written", "batch_norm_backward", grad, x),
                *(*given, o, grad_x, first, second),
            ),
        }

    def roofs(self, size: int) -> dict[str, tuple[object, ...]]:
        """Return passes over the same bytes, in whole cache lines and as float32."""
        lines = (size // 256 * 64,)
        x, grad, y, grad_x = (tensor(block, lines, 0) for block in self.blocks.values())
        one, two = (Tensor * 1)(x), (Tensor * 2)(x, grad)
        by = ctypes.byref
        return {
            "copy": ("", "stream", 1, one, 0, None, by(y), 1),
            "two read, one written": ("", "stream", 2, two, 0, None, by(grad_x), 1),
            "read": ("", "stream", 1, one, 0, None, None, 0),
        }


def seconds(run: Callable[[], None], least: float) -> float:
    """Return the time of a run, the mean of as many as take `least` seconds."""
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    times = max(1, int(least / max(once, 1e-7)))
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("builds", nargs="+", metavar="LIBRARY")
    parser.add_argument("--shape", default="32,64,112,112")
    parser.add_argument("--channel-axis", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    shape = tuple(int(size) for size in arguments.shape.split(","))
    builds = [Build(path, arguments.threads) for path in arguments.builds]
    work = Work(shape, arguments.channel_axis, arguments.dtype)
    times: dict[str, list[list[float]]] = {name: [[] for _ in builds] for name in work.calls}
    for _ in range(arguments.turns):
        for name, (_, *call) in work.calls.items():
            for of_build, build in zip(times[name], builds, strict=True):
                of_build.append(seconds(functools.partial(build.call, *call), 2e-3))
    median = {name: [statistics.median(t) for t in of_builds] for name, of_builds in times.items()}
    print(f"{shape}, channel axis {arguments.channel_axis}, {arguments.dtype}, "
          f"{arguments.threads} threads, medians of {arguments.turns} turns")  # fmt: skip
    for name, (roof, *_) in work.calls.items():
        best_roof = min(median[roof]) if roof else None
        row = "".join(
            f"{t * 1e6:12.1f} us" + (f" [{t / best_roof:5.2f}]" if best_roof else " " * 8)
            for t in median[name]
        )
        print(f"{name:22}{row}")


if __name__ == "__main__":
    main()
