"""What can go wrong with a GPU is an exception that says what, where and what helps."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulator import Simulator, library

from fusednn import ops

HERE = Path(__file__).parent
#: What the package finds of a device it remembers: each of these needs a process of its own.
PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from simulator import Simulator
from pathlib import Path
gpu = Simulator(Path({path!r}))
x, y = gpu.array(np.ones(5, np.float32)), gpu.empty(5)
gpu.set({properties})
from fusednn import ops
from fusednn.cli import main
for _ in range(2):
    try:
        ops.leaky_relu(x, out=y)
    except RuntimeError as error:
        print(error)
main(["info"])
"""


def run_with(**properties: int) -> list[str]:
    """What a process prints that computes on such a device: the error twice, then `info`."""
    path = str(library("fusednn_cuda_sim"))
    given = ", ".join(f"{name}={value}" for name, value in properties.items())
    program = PROGRAM.format(here=str(HERE), path=path, properties=given)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FUSEDNN_CUDA_LIBRARY": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.fixture
def x(gpu: Simulator):
    return gpu.array(np.ones(5, np.float32))


def assert_refused(lines: list[str], reason: str) -> None:
    message = f"`x` must be in the CPU's memory: {reason}. Received: type=DeviceArray"
    assert lines[:2] == [message, message]
    (told,) = [line for line in lines if line.startswith("GPU ")]
    assert told == f"GPU             none that can be used: {reason}"


def test_no_driver():
    lines = run_with(driver=0)
    assert_refused(
        lines,
        "cudaGetDeviceCount: CUDA driver version is insufficient for CUDA runtime version "
        "(cudaErrorInsufficientDriver): no NVIDIA driver was found: install one that supports "
        "CUDA 13, and start containers with access to the GPUs",
    )
    assert "CUDA driver     not found; the kernels have the runtime of 13.0" in lines


def test_a_driver_that_is_too_old():
    lines = run_with(driver=12040)
    assert_refused(
        lines,
        "cudaGetDeviceCount: CUDA driver version is insufficient for CUDA runtime version "
        "(cudaErrorInsufficientDriver): the NVIDIA driver supports CUDA 12.4, the kernels need "
        "CUDA 13: update the driver",
    )
    assert "CUDA driver     supports CUDA 12.4; the kernels have the runtime of 13.0" in lines


def test_no_gpu():
    assert_refused(
        run_with(devices=0),
        "cudaGetDeviceCount: no CUDA-capable device is detected (cudaErrorNoDevice): CUDA sees no "
        "NVIDIA GPU: see whether `nvidia-smi` lists one and what CUDA_VISIBLE_DEVICES hides",
    )


def test_a_gpu_that_is_too_old():
    message = (
        "leaky_relu: cuda:0 must have compute capability 7.5 or later. Received: capability 7.0"
    )
    lines = run_with(capability=70)
    assert lines[:2] == [message, message]
    device = "cuda:0          fusednn's simulator, capability 7.0, 4 multiprocessors"
    assert any(line.startswith(device) for line in lines)


def test_info_names_the_gpu():
    lines = run_with(capability=120, devices=2)
    for device in (0, 1):
        expected = f"cuda:{device}          fusednn's simulator, capability 12.0, 4 multiprocessors"
        assert f"{expected}, 16.0 GiB" in lines
    assert "CUDA driver     supports CUDA 13.0; the kernels have the runtime of 13.0" in lines


FAILURES = {
    701: "kernel needs more of the GPU than this process may use: see whether MPS or MIG",
    720: "kernel needs more of the GPU than this process may use: see whether MPS or MIG",
    700: "started before it failed, and nothing more can be computed.*: restart the process",
    719: "started before it failed, and nothing more can be computed.*: restart the process",
    209: "kernels are compiled for none, cuda:0 has .* 9.0: .*FUSEDNN_CUDA_ARCHITECTURES=90-real",
    222: "kernels are compiled for none, cuda:0 has .* 9.0: .*FUSEDNN_CUDA_ARCHITECTURES=90-real",
    46: "another process holds the GPU alone",
    802: "start the fabric manager",
    803: "of different versions: restart the machine",
    214: "the GPU's memory has lost data",
    900: "make the call once before, on the same stream",
}


@pytest.mark.parametrize("error", FAILURES)
def test_a_failed_launch(gpu, x, error):
    gpu.set(fail_launch=1, launch_error=error)
    y = gpu.empty(5)
    with pytest.raises(
        RuntimeError, match=rf"^leaky_relu: .* \(cudaError\w+\): .*{FAILURES[error]}"
    ):
        ops.leaky_relu(x, out=y)
    ops.leaky_relu(x, out=y)
    np.testing.assert_array_equal(y.get(), 1)


def test_an_error_that_needs_no_more_words(gpu, x):
    gpu.set(fail_launch=1, launch_error=999)
    with pytest.raises(RuntimeError, match=r"^leaky_relu: unknown error \(cudaErrorUnknown\)$"):
        ops.leaky_relu(x, out=gpu.empty(5))


def test_memory_that_runs_out(gpu):
    shape = (2, 700_000)  # more workspace than any other test leaves for later calls
    x, out = gpu.array(np.ones(shape, np.float32)), gpu.empty(shape)
    outputs = (out, gpu.empty(shape[1]), gpu.empty(shape[1]))
    gpu.set(fail_allocation=1)
    message = (
        r"batch_norm: out of memory .*left of cuda:0's memory, 16384 of 16384 MiB: free arrays"
    )
    with pytest.raises(MemoryError, match=message):
        ops.batch_norm_forward(x, None, None, out=outputs)
    assert np.isnan(out.get()).all()
    ops.batch_norm_forward(x, None, None, out=outputs)
    np.testing.assert_array_equal(out.get(), 0)


def test_a_device_that_is_not_there(gpu, x):
    x.device, y = 3, gpu.empty(5)
    y.device = 3
    message = "device must be one that CUDA sees, cuda:0 to cuda:1. Received: cuda:3"
    gpu.set(devices=2)
    with pytest.raises(
        RuntimeError, match=rf"leaky_relu: invalid device ordinal .*\): the {message}"
    ):
        ops.leaky_relu(x, out=y)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (0, "CUDA sees no NVIDIA GPU. Received: cuda:3"),
        (1, "the device must be cuda:0, the one that CUDA sees. Received: cuda:3"),
        (2, "the device must be one that CUDA sees, cuda:0 to cuda:1. Received: cuda:3"),
    ],
)
def test_devices_that_are_there_are_named(gpu, devices, expected):
    gpu.set(devices=devices)
    text = ctypes.create_string_buffer(512)
    invalid_device = 101
    gpu.functions.simulated_explanation(invalid_device, 3, text, ctypes.c_size_t(len(text)))
    assert text.value.decode() == expected


def test_arrays_on_two_gpus(gpu, x):
    gpu.set(devices=2)
    y = gpu.empty(5)
    y.device = 1
    message = "`out` must be on the device of the other arrays, cuda:0. Received: device=cuda:1"
    with pytest.raises(ValueError, match=message):
        ops.leaky_relu(x, out=y)
    assert np.isnan(y.get()).all()
    x.device = 1
    ops.leaky_relu(x, out=y)
    np.testing.assert_array_equal(y.get(), 1)
