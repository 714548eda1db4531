"""Optimizer steps of `fusednn.ops` on the simulated device: numbers there, remembered lists."""

from __future__ import annotations

import numpy as np
import pytest
from simulator import DeviceArray, Simulator

from fusednn import ops

SIZES = (5, 0, 1, 4100)


class Lists:
    """Adam's arrays, on the CPU and on the device."""

    def __init__(self, gpu: Simulator) -> None:
        rng = np.random.default_rng(8)
        self.cpu = [
            [rng.uniform(0.5, 2, size).astype(np.float32) for size in SIZES] for _ in range(4)
        ]
        self.gpu = [[gpu.array(array) for array in arrays] for arrays in self.cpu]

    def assert_same(self) -> None:
        for ours, theirs in zip(self.gpu, self.cpu, strict=True):
            for device, host in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(device.get(), host)


def scalar(gpu: Simulator, value: float) -> DeviceArray:
    return gpu.array(np.float32(value).reshape(()))


def test_numbers_on_the_device(gpu):
    lists = Lists(gpu)
    step, lr, scale = scalar(gpu, 0), scalar(gpu, 0.01), scalar(gpu, 4)
    for t in (1, 2, 3):
        lr.set(np.float32(0.01 / t).reshape(()))
        ops.adam_step(*lists.gpu, step=step, lr=lr, grad_scale=scale)
        ops.adam_step(*lists.cpu, step=t, lr=float(np.float32(0.01 / t)), grad_scale=4.0)
        lists.assert_same()
        assert step.get() == t


def test_found_inf_leaves_everything_as_it_is(gpu):
    lists = Lists(gpu)
    step, found = scalar(gpu, 0), scalar(gpu, 1)
    ops.adam_step(*lists.gpu, step=step, lr=0.01, found_inf=found)
    lists.assert_same()
    assert step.get() == 0
    found.set(np.zeros((), np.float32))
    ops.adam_step(*lists.gpu, step=step, lr=0.01, found_inf=found)
    ops.adam_step(*lists.cpu, step=1, lr=0.01)
    lists.assert_same()


def test_a_captured_step_is_replayed_with_other_numbers(gpu):
    lists = Lists(gpu)
    step, lr = scalar(gpu, 0), scalar(gpu, 0.01)
    ops.adam_step(*lists.gpu, step=step, lr=lr)
    with gpu.capture():
        ops.adam_step(*lists.gpu, step=step, lr=lr)
    lr.set(np.float32(0.5).reshape(()))
    gpu.replay()
    ops.adam_step(*lists.cpu, step=1, lr=float(np.float32(0.01)))
    ops.adam_step(*lists.cpu, step=2, lr=0.5)
    lists.assert_same()


def test_the_tables_of_known_lists_stay_on_the_device(gpu):
    lists = Lists(gpu)
    ops.adam_step(*lists.gpu, step=1, lr=0.01)
    before = gpu.counts
    for t in (2, 3):
        # Other lists of the same arrays.
        ops.adam_step(*[list(arrays) for arrays in lists.gpu], step=t, lr=0.01)
    assert gpu.counts.launches == before.launches + 2
    lists.gpu[1][3] = gpu.array(lists.cpu[1][3])
    ops.adam_step(*lists.gpu, step=4, lr=0.01)
    assert gpu.counts.launches > before.launches + 3
    for t in (1, 2, 3, 4):
        ops.adam_step(*lists.cpu, step=t, lr=0.01)
    lists.assert_same()


def test_another_stream_gets_tables_of_its_own(gpu, monkeypatch):
    lists = Lists(gpu)
    ops.adam_step(*lists.gpu, step=1, lr=0.01)
    before = gpu.counts
    monkeypatch.setattr(DeviceArray, "stream", gpu.new_stream())
    ops.adam_step(*lists.gpu, step=2, lr=0.01)
    assert gpu.counts.launches > before.launches + 1
    for t in (1, 2):
        ops.adam_step(*lists.cpu, step=t, lr=0.01)
    lists.assert_same()


@pytest.mark.parametrize("name", ["lr", "grad_scale", "step", "found_inf"])
def test_numbers_on_the_device_are_one_float32(gpu, name):
    lists = Lists(gpu)
    arguments = {"step": 1, "lr": 0.1, name: gpu.array(np.ones(1))}
    message = f"`{name}` must be a number, or a float32 array of one element on a GPU"
    with pytest.raises(TypeError, match=f"{message}. Received: an array of 1 elements.*float64"):
        ops.adam_step(*lists.gpu, **arguments)
    arguments[name] = gpu.array(np.ones(2, np.float32))
    with pytest.raises(TypeError, match=f"{message}. Received: an array of 2 elements"):
        ops.adam_step(*lists.gpu, **arguments)
    lists.assert_same()


@pytest.mark.parametrize("name", ["lr", "grad_scale", "step", "found_inf"])
def test_numbers_on_the_device_need_arrays_there(gpu, name):
    lists = Lists(gpu)
    arguments = {"step": 1, "lr": 0.1, name: scalar(gpu, 1)}
    message = f"`{name}` must be a number where `params` are not on a GPU. Received: .* cuda:0"
    for _ in range(2):  # of lists not known yet, and known
        with pytest.raises(ValueError, match=message):
            ops.adam_step(*lists.cpu, **arguments)
        ops.adam_step(*lists.cpu, step=1, lr=0.0)


def test_found_inf_is_an_array_on_the_device(gpu):
    lists = Lists(gpu)
    with pytest.raises(TypeError, match="`found_inf` must be None, or a float32 array of one elem"):
        ops.adam_step(*lists.gpu, step=1, lr=0.1, found_inf=1.0)
