"""A call computes on the device of its arrays, whichever is current, and with that one's limits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulator import DeviceArray, Simulator, library

import fusednn
from fusednn import _core, ops

HERE = Path(__file__).parent
#: Its channels are kept on chip by groups of blocks, and in two passes where few are resident.
SHAPE = (16, 3, 5000)
#: Of multiprocessors, that such groups need.
SPARE = 3


class Calls:
    """Calls of every kind with arrays on one device, whose results nobody looks at."""

    def __init__(self, gpu: Simulator, device: int = 0) -> None:
        self.gpu, self.device = gpu, device
        self.x, self.grad, self.y = (self.array(SHAPE) for _ in range(3))
        self.channels = [self.array(SHAPE[1]) for _ in range(4)]
        self.out = self.array(SHAPE), self.array(SHAPE[1]), self.array(SHAPE[1])
        self.states = {"momentum_buffers": [self.array(SHAPE)]}
        self.scalars = {name: self.array(1) for name in ("step", "lr", "grad_scale", "found_inf")}
        self.scalars["found_inf"].set(np.zeros(1, np.float32))

    def array(self, shape: int | tuple[int, ...]) -> DeviceArray:
        array = self.gpu.array(np.ones(shape, np.float32))
        array.device = self.device
        return array

    def leaky_relu(self) -> None:
        ops.leaky_relu(self.x, out=self.y)

    def leaky_relu_backward(self) -> None:
        ops.leaky_relu_backward(self.grad, self.x, out=self.y)

    def forward(self) -> None:
        ops.batch_norm_forward(self.x, *self.channels[:2], out=self.out)

    def backward(self) -> None:
        ops.batch_norm_backward(self.grad, self.x, *self.channels, out=self.out)

    def backward_from_output(self) -> None:
        given = self.grad, self.x, *self.channels[:3]
        ops.batch_norm_backward_from_output(*given, negative_slope=0.1, out=self.out)

    def inference(self) -> None:
        ops.batch_norm_inference(self.x, *self.channels, out=self.y)

    def inference_backward(self) -> None:
        ops.batch_norm_inference_backward(self.grad, self.x, *self.channels, out=self.out)

    def statistics(self) -> None:
        _core.batch_norm_statistics(self.x, 1, *self.out[1:])

    def merge(self) -> None:
        _core.merge_statistics([(*self.channels[:2], 4), (*self.channels[2:], 5)], *self.out[1:])

    def apply(self) -> None:
        gamma, beta, mean, inv_std = self.channels
        _core.batch_norm_apply(self.x, mean, inv_std, gamma, beta, 0.1, 1, self.y)

    def backward_reduce(self) -> None:
        given = self.grad, self.x, *self.channels
        _core.batch_norm_backward_reduce(*given, 0.1, 1, *self.out[1:])

    def backward_apply(self) -> None:
        given = self.grad, self.x, *self.channels, *self.out[1:]
        _core.batch_norm_backward_apply(*given, SHAPE[0] * SHAPE[2], 0.1, 1, self.y)

    def optimizer_step(self) -> None:
        ops.sgd_step([self.x], [self.grad], None, step=1, lr=0.5)

    def measured_step(self) -> None:
        """All that is measured, and all numbers on the device."""
        ops.sgd_step(
            *([self.x], [self.grad], self.states["momentum_buffers"]),
            **self.scalars,
            momentum=0.9,
            max_norm=1.0,
            skip_nonfinite=True,
        )


KINDS = [name for name, value in vars(Calls).items() if callable(value)]
KINDS = [name for name in KINDS if not name.startswith("__") and name != "array"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def call_of(gpu: Simulator, kind: str, device: int = 0) -> Callable[[], None]:
    return getattr(Calls(gpu, device), kind)


@each_kind
def test_the_device_is_that_of_the_arrays(gpu, kind):
    gpu.set(devices=2)
    for device in (1, 0):
        call = call_of(gpu, kind, device)
        before = len(gpu.launch_devices)
        call()
        launched = gpu.launch_devices[before:]
        assert launched
        assert set(launched) == {device}
        assert gpu.current_device == 0


def test_a_norm_is_measured_where_the_arrays_are(gpu):
    gpu.set(devices=2)
    assert ops.global_norm([Calls(gpu, 1).array(16)]) == 4
    assert set(gpu.launch_devices) == {1}
    assert gpu.current_device == 0


@each_kind
def test_the_current_device_is_that_of_before_after_a_failure(gpu, kind):
    gpu.set(devices=2)
    call = call_of(gpu, kind, 1)
    gpu.set(fail_launch=1)
    with pytest.raises(RuntimeError, match="cudaErrorLaunchOutOfResources"):
        call()
    assert gpu.current_device == 0
    call()


@pytest.mark.parametrize("spare", [0, SPARE], ids=["on chip", "two passes"])
@each_kind
def test_no_call_but_the_first_waits_or_allocates(gpu, kind, spare):
    call = call_of(gpu, kind)
    with fusednn.cuda_settings(spare_multiprocessors=spare):
        call()
        before = gpu.counts
        for _ in range(2):
            call()
    after = gpu.counts
    assert after.launches > before.launches
    assert after.synchronisations == before.synchronisations
    assert after.allocations == before.allocations
    assert after.copies == before.copies


def test_kept_memory_is_its_devices(gpu):
    gpu.set(devices=2)
    calls = [Calls(gpu, device) for device in (0, 1)]
    _core.cuda_release_memory()
    before = gpu.counts.allocations
    for expected in (1, 2, 2):
        calls[expected - 1].forward()
        assert gpu.counts.allocations == before + expected


def test_blocks_that_wait_for_one_another_are_launched_as_such(gpu):
    """The driver then keeps other kernels' blocks out of their way, or refuses."""
    call = call_of(gpu, "forward")
    call()
    gpu.set(cooperative=0)  # the library remembers what the device could do
    with pytest.raises(RuntimeError, match="cudaErrorNotSupported"):
        call()
    with fusednn.cuda_settings(spare_multiprocessors=SPARE):
        call()


#: What is known of a device's limits is remembered: they differ in a process of its own.
PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from simulator import Simulator
from test_cuda_devices import Calls
gpu = Simulator(Path({path!r}))
gpu.set(devices=2)
calls = [Calls(gpu, device) for device in (0, 1)]
for device in (0, 1, 0):
    gpu.set(multiprocessors=(4, 1)[device])
    before = gpu.counts.launches
    calls[device].forward()
    print(gpu.counts.launches - before)
"""


def test_each_device_has_its_own_limits(gpu):
    """What the first keeps on chip in one launch takes two passes on the other."""
    path = str(library("fusednn_cuda_sim"))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(paths=[str(HERE), str(HERE.parent)], path=path)],
        env={**os.environ, "FUSEDNN_CUDA_LIBRARY": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, other, again = map(int, ran.stdout.split())
    assert first == again == 1
    assert other > 1
