"""Optimizer steps of `fusednn.ops` on the simulated device: numbers there, remembered lists."""

from __future__ import annotations

import numpy as np
import pytest
from simulator import Described, DeviceArray, Simulator

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


def test_a_graph_outlives_what_the_package_remembers(gpu):
    """More lists than are remembered take the place of the captured one, not its memory."""
    lists = Lists(gpu)
    step, lr = scalar(gpu, 0), scalar(gpu, 0.01)
    ops.adam_step(*lists.gpu, step=step, lr=lr)
    with gpu.capture():
        ops.adam_step(*lists.gpu, step=step, lr=lr)
    graph = gpu.keep_graph()
    for _ in range(130):
        others = [[gpu.array(np.ones(1, np.float32))] for _ in range(4)]
        ops.adam_step(*others, step=1, lr=0.1)
    gpu.launch(graph)
    for t in (1, 2):
        ops.adam_step(*lists.cpu, step=t, lr=float(np.float32(0.01)))
    lists.assert_same()
    # The list is another one by now, beside the graph's.
    ops.adam_step(*lists.gpu, step=step, lr=lr)
    gpu.launch(graph)
    for t in (3, 4):
        ops.adam_step(*lists.cpu, step=t, lr=float(np.float32(0.01)))
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


def in_codes(gpu: Simulator, signed: bool) -> tuple[list, list]:
    """States of zeros in 8 bits, on the CPU and on the device."""
    cpu = [ops.quantized_state(np.empty(n, np.float32), signed=signed) for n in SIZES]
    copies = [(gpu.array(s.codes), gpu.array(s.scales)) for s in cpu]
    return cpu, [ops.QuantizedState(*parts, signed=signed) for parts in copies]


def test_states_in_8_bits(gpu):
    lists = Lists(gpu)
    first, second = in_codes(gpu, True), in_codes(gpu, False)
    before = None
    for t in (1, 2, 3):
        ops.adam_step(*lists.cpu[:2], first[0], second[0], step=t, lr=0.01)
        ops.adam_step(*lists.gpu[:2], first[1], second[1], step=t, lr=0.01)
        launches = gpu.counts.launches
        assert before is None or launches == before + 1  # a known list: nothing is uploaded
        before = launches
    lists.assert_same()
    for cpu, device in (first, second):
        for ours, theirs in zip(device, cpu, strict=True):
            np.testing.assert_array_equal(ours.codes.get(), theirs.codes)
            np.testing.assert_array_equal(ours.scales.get(), theirs.scales)
            assert (ours.shape, ours.size, ours.nbytes) == (
                theirs.shape,
                theirs.size,
                theirs.nbytes,
            )


def test_states_in_8_bits_that_are_refused(gpu):
    lists = Lists(gpu)
    zeros = [gpu.array(np.zeros(-(-n // 256), np.float32)) for n in SIZES]
    with pytest.raises(TypeError, match=r"`codes` must be uint8\. Received: dtype=float32"):
        ops.QuantizedState(lists.gpu[0][3], zeros[3], signed=True)
    with pytest.raises(ValueError, match=r"`scales` must have shape \(17,\).*Received: .*\(1,\)"):
        ops.QuantizedState(gpu.empty(4100, np.uint8), zeros[0], signed=True)
    on_cpu, on_gpu = in_codes(gpu, True)
    with pytest.raises(ValueError, match=r"`exp_avgs\[0\]` must be on the device of"):
        ops.adam_step(*lists.gpu[:2], on_cpu, lists.gpu[3], step=1, lr=0.1)
    with pytest.raises(ValueError, match=r"`exp_avgs\[0\]` must be on the device of"):
        ops.adam_step(*lists.cpu[:2], on_gpu, lists.cpu[3], step=1, lr=0.1)
    for decoded in (on_gpu[0].dequantize, lambda: on_gpu[0].assign(np.zeros(5))):
        with pytest.raises(TypeError, match=r"`codes` must be a NumPy array\. Received: type=Devi"):
            decoded()
    on_gpu[0].codes = lists.gpu[0][0]  # past its checks
    with pytest.raises(TypeError, match=r"`exp_avgs\[0\].codes` must be uint8. Received: dtype=fl"):
        ops.adam_step(*lists.gpu[:2], on_gpu, lists.gpu[3], step=1, lr=0.1)
    lists.assert_same()


def test_states_in_8_bits_of_cupy(gpu, cupy):
    param = cupy.empty((300,), np.float32)
    state = ops.quantized_state(param, signed=False)
    assert (type(state.codes), type(state.scales)) == (type(param), type(param))
    np.testing.assert_array_equal(state.codes.get(), np.zeros(300, np.uint8))
    np.testing.assert_array_equal(state.scales.get(), np.zeros(2, np.float32))
    with pytest.raises(TypeError, match=r"`like` must be an array of NumPy, PyTorch or CuPy\. Rec"):
        ops.quantized_state(gpu.empty(3))


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


def test_numbers_that_have_the_cuda_array_interface_alone(gpu):
    """They have no `dtype` of their own."""
    lists, step, lr = Lists(gpu), scalar(gpu, 3), scalar(gpu, 0.125)
    for _ in range(2):  # of a list not known yet, and known
        ops.adam_step(*lists.cpu, step=int(step.get().item()) + 1, lr=0.125)
        ops.adam_step(*lists.gpu, step=Described(step), lr=Described(lr))
        lists.assert_same()
    assert step.get() == 5
    message = (
        r"`lr` must be a number, or a float32 array of one element on a GPU\. "
        r"Received: an array of 1 elements, dtype=float64"
    )
    with pytest.raises(TypeError, match=message):
        ops.adam_step(*lists.gpu, step=1, lr=Described(gpu.array(np.ones(1))))
    with pytest.raises(ValueError, match="`step` must be writable: the step counts in it"):
        ops.adam_step(*lists.gpu, step=Described(step, data=(step.pointer, True)), lr=0.1)
    lists.assert_same()
    assert step.get() == 5


@pytest.mark.parametrize("name", ["lr", "grad_scale", "step", "found_inf"])
def test_numbers_on_the_device_need_arrays_there(gpu, name):
    lists = Lists(gpu)
    arguments = {"step": 1, "lr": 0.1, name: scalar(gpu, 1)}
    message = f"`{name}` must be a number where `params` are not on a GPU. Received: .* cuda:0"
    for _ in range(2):  # of lists not known yet, and known
        with pytest.raises(ValueError, match=message):
            ops.adam_step(*lists.cpu, **arguments)
        ops.adam_step(*lists.cpu, step=1, lr=0.0)


@pytest.mark.parametrize("name", ["lr", "grad_scale", "step", "found_inf"])
def test_numbers_on_another_gpu_are_refused(gpu, name):
    gpu.set(devices=2)
    lists, number = Lists(gpu), scalar(gpu, 1)
    number.device = 1
    message = f"`{name}` must be on the device of `params`, cuda:0. Received: an array on cuda:1"
    for _ in range(2):  # of lists not known yet, and known
        with pytest.raises(ValueError, match=message):
            ops.adam_step(*lists.gpu, **{"step": 1, "lr": 0.1, name: number})
        lists.assert_same()
        ops.adam_step(*lists.gpu, step=1, lr=0.0)
        ops.adam_step(*lists.cpu, step=1, lr=0.0)
    assert number.get() == 1


def test_found_inf_is_an_array_on_the_device(gpu):
    lists = Lists(gpu)
    with pytest.raises(TypeError, match="`found_inf` must be None, or a float32 array of one elem"):
        ops.adam_step(*lists.gpu, step=1, lr=0.1, found_inf=1.0)
