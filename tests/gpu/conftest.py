"""The device of each test, and its random numbers: others in every run on a GPU."""

from __future__ import annotations

import os
import secrets
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Where the simulator's module lies.
sys.path.append(str(Path(__file__).parents[1] / "cuda_sim"))

from devices import (
    ABSENT,
    STANDS_IN,
    CuPy,
    CuPyStandIn,
    Device,
    Simulated,
    Torch,
    TorchStandIn,
    available,
)
from layer_on_device import OnDevice
from simulator import Simulator, library

import fusednn
from fusednn import devices as places

DEVICES = available()
#: Without a GPU there is nothing here to collect.
collect_ignore_glob = [] if DEVICES else ["test_*.py"]

#: Long tests are of the kernels, not of the package whose arrays they have.
LONG = "torch" if "torch" in DEVICES else "cupy"

SEED = int(os.environ.get("FUSEDNN_GPU_SEED") or (1 if STANDS_IN else secrets.randbits(32)))


def pytest_report_header() -> str:
    stands_in = " (stand-ins: nothing runs on a GPU)" if STANDS_IN else ""
    absent = "".join(f"; {name}: {why}" for name, why in ABSENT.items())
    return f"devices: {', '.join(DEVICES) or 'none'}{stands_in}{absent}; FUSEDNN_GPU_SEED={SEED}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stand-ins run what is short, unless asked for more; of GPUs' packages the first runs all."""
    here = Path(__file__).parent
    leaves_long_ones = STANDS_IN and not config.option.markexpr
    dropped = []
    for item in items:
        if here in item.path.parents and not item.get_closest_marker("short"):
            where = getattr(item, "callspec", None)
            other = where is not None and where.params.get("device", LONG) != LONG
            if other or leaves_long_ones:
                dropped.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    path = library("fusednn_cuda_sim")
    # The package loads it at its first call for an array on a GPU, and keeps what it found.
    os.environ["FUSEDNN_CUDA_LIBRARY"] = str(path)
    return Simulator(path)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Numbers of the run's seed and the test's name: a failure comes back when run alone."""
    return np.random.default_rng([SEED, zlib.crc32(request.node.nodeid.encode())])


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "simulated":
        simulator = request.getfixturevalue("simulator")
        simulator.reset()
        yield Simulated(simulator)
        simulator.reset()
    elif request.param == "torch":
        yield TorchStandIn() if STANDS_IN else Torch()
    else:
        yield CuPyStandIn() if STANDS_IN else CuPy()


@pytest.fixture
def on_device(device, make):
    def place(shape, layout, dtype, offset=0):
        return OnDevice(device, make, shape, dtype, layout, offset)

    return place


@pytest.fixture
def gpu(request, monkeypatch) -> Iterator[Any]:
    """The device that models compute on."""
    if STANDS_IN:
        from stand_in_cupy import install

        simulator = request.getfixturevalue("simulator")
        simulator.reset()
        monkeypatch.setattr(places, "_known", {"cpu": places.CPU})
        install(simulator, monkeypatch)
    elif "cupy" not in available():
        pytest.skip(f"CuPy: {ABSENT.get('cupy', 'left out')}")
    with fusednn.device("cpu"):
        fusednn.device("cuda")
        yield places.current()
