"""Fixtures of what runs on the simulated device."""

from collections.abc import Iterator

import pytest
from simulator import SCHEDULES, Simulator, library


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
