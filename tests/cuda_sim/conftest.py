"""Fixtures of what runs on the simulated device."""

import os
from collections.abc import Iterator

import pytest
import stand_in_cupy
from simulator import SCHEDULES, Simulator, library

import fusednn
from fusednn import devices


@pytest.fixture(scope="session")
def selftest_library() -> Simulator:
    return Simulator(library("fusednn_cuda_sim_selftest"))


@pytest.fixture
def selftest(selftest_library: Simulator) -> Iterator[Simulator]:
    """The simulator with the small kernels of selftest/kernels.cu."""
    selftest_library.reset()
    yield selftest_library
    selftest_library.reset()
    races = selftest_library.races()
    assert not races, races


@pytest.fixture(params=SCHEDULES, ids=lambda s: f"{s[0]}{s[1]}")
def schedule(request: pytest.FixtureRequest) -> tuple[str, int]:
    """The test runs in each of these orders of threads."""
    return request.param


@pytest.fixture(scope="session")
def kernels_library() -> Simulator:
    path = library("fusednn_cuda_sim")
    # The package loads it at its first call for an array on a GPU, and keeps what it found.
    os.environ["FUSEDNN_CUDA_LIBRARY"] = str(path)
    return Simulator(path)


@pytest.fixture
def gpu(kernels_library: Simulator) -> Iterator[Simulator]:
    """The simulated device that `fusednn.ops` computes on when given `gpu.array(...)`.

    A kernel that fails is an exception of the package, with the simulator's report in it. Races
    that the thread sanitizer found fail the test.
    """
    kernels_library.reset()
    yield kernels_library
    kernels_library.reset()
    races = kernels_library.races()
    assert not races, races


@pytest.fixture
def cupy(gpu: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in_cupy.Module]:
    """The simulated device as `fusednn.device("cuda")` finds it, through a stand-in for CuPy."""
    # Within a context of its own: what a test chooses ends with it.
    monkeypatch.setattr(devices, "_known", {"cpu": devices.CPU})
    with fusednn.device("cpu"):
        yield stand_in_cupy.install(gpu, monkeypatch)
