"""Fixtures of all tests: arrays of every kind, threads, commands; a header that says what runs."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers the name "bfloat16" with NumPy
import numpy as np
import pytest

import fusednn
from fusednn.cli import main


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--learning", action="store_true", help="run the whole trainings with many seeds, too"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--learning"):
        return
    left_out = [item for item in items if item.get_closest_marker("learning")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test with the same chance, whichever ran before.

    Two computations of one training part for good where a rounding takes an element across the
    kink of a ReLU, which of random weights a few in a thousand do: the same ones must always be
    drawn.
    """
    fusednn.utils.set_random_seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


def pytest_report_header() -> list[str]:
    packages = ("numpy", "ml_dtypes", "threadpoolctl", "torch", "keras", "jax", "optax", "onnx")
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    versions = [f"{name} {installed[name]}" for name in packages if name in installed]
    return [
        f"fusednn {fusednn.__version__} ({', '.join(versions)}) on {platform.machine()}",
        f"instruction set: {fusednn.instruction_set()} of {', '.join(fusednn.instruction_sets())}; "
        f"threads: {fusednn.get_num_threads()}",
    ]


@pytest.fixture(params=[1, 2, 5], ids=lambda n: f"threads{n}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test runs with each of these numbers of threads."""
    before = fusednn.get_num_threads()
    fusednn.set_num_threads(request.param)
    yield request.param
    fusednn.set_num_threads(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150211)


class ArrayMaker:
    """Makes arrays of any dtype, and the same values at awkward places in memory."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def normal(
        self, shape: tuple[int, ...], dtype: Any = np.float32, mean: float = 0.0, std: float = 1.0
    ) -> np.ndarray:
        return np.asarray(mean + std * self.rng.standard_normal(shape)).astype(dtype)

    def uniform(
        self, shape: tuple[int, ...], dtype: Any = np.float32, low: float = 0.5, high: float = 2.0
    ) -> np.ndarray:
        return np.asarray(self.rng.uniform(low, high, shape)).astype(dtype)

    @staticmethod
    def offset(x: np.ndarray, nbytes: int = 1) -> np.ndarray:
        """A copy that starts `nbytes` after an aligned address: 1 is misaligned for every dtype."""
        # NumPy aligns to 16 bytes only; 64 makes the distance to a cache line certain.
        memory = np.zeros(x.nbytes + 64 + nbytes, np.uint8)
        start = -memory.ctypes.data % 64 + nbytes
        copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        copy[...] = x
        return copy

    @staticmethod
    def sliced(x: np.ndarray) -> np.ndarray:
        """A copy whose every dimension has gaps between its elements."""
        gaps = np.zeros(tuple(3 * n + 1 for n in x.shape), x.dtype)
        view = gaps[tuple(slice(1, 3 * n + 1, 3) for n in x.shape)]
        view[...] = x
        return view

    @staticmethod
    def field(x: np.ndarray) -> np.ndarray:
        """A copy inside records, with strides that are no multiple of the element size."""
        records = np.zeros(x.shape, [("before", np.uint8), ("value", x.dtype)])
        records["value"] = x
        return records["value"]

    @staticmethod
    def transposed(x: np.ndarray) -> np.ndarray:
        """A copy whose dimensions lie in memory in the opposite order."""
        return np.asfortranarray(x)

    @staticmethod
    def read_only(x: np.ndarray) -> np.ndarray:
        copy = x.copy()
        copy.flags.writeable = False
        return copy


@pytest.fixture
def make(rng: np.random.Generator) -> ArrayMaker:
    return ArrayMaker(rng)


AWKWARD = {
    "misaligned": lambda x: ArrayMaker.offset(x, 1),
    "offset_by_one": lambda x: ArrayMaker.offset(x, x.itemsize),
    "sliced": ArrayMaker.sliced,
    "field": ArrayMaker.field,
    "reversed": lambda x: x[::-1].copy()[::-1],
    "transposed": ArrayMaker.transposed,
    "read_only": ArrayMaker.read_only,
}


@pytest.fixture(params=AWKWARD.values(), ids=AWKWARD.keys())
def awkward(request: pytest.FixtureRequest) -> Callable[[np.ndarray], np.ndarray]:
    """Puts a copy of an array where alignment, strides or permission are not the usual ones."""
    return request.param


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A .csv file of three well separated classes, labels strings, with a header."""
    rng = np.random.default_rng(1)
    labels = np.arange(300) % 3
    x = rng.normal(size=(300, 4)) + 4.0 * np.eye(3, 4)[labels]
    rows = [
        ",".join([*(f"{v:.5f}" for v in row), "abc"[k]]) for row, k in zip(x, labels, strict=True)
    ]
    path = tmp_path / "blobs.csv"
    path.write_text("\n".join(["w,x,y,z,kind", *rows]) + "\n")
    return path


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail as promised; returns what it says was wrong."""

    def run(*argv: str | Path) -> str:
        assert main([str(argument) for argument in argv]) == 2
        error = capsys.readouterr().err
        assert error.startswith("fusednn: error: ")
        assert error.count("\n") == 1
        assert error.endswith("\n")
        return error.removeprefix("fusednn: error: ").strip()

    return run
