"""Choosing a device, where there is no GPU: names, contexts, and what an error says."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

import fusednn
from fusednn import _core, devices


@pytest.fixture(autouse=True)
def _restored():
    with fusednn.device("cpu"):
        yield


class Pretended(devices.Device):
    name = "pretended"


@pytest.fixture
def pretended(monkeypatch) -> devices.Device:
    device = Pretended()
    monkeypatch.setitem(devices._known, "pretended", device)
    return device


def test_it_chooses_at_once_and_a_context_restores(pretended):
    assert devices.current() is devices.CPU
    setting = fusednn.device("pretended")
    assert repr(setting) == "<fusednn.device('pretended')>"
    assert devices.current() is pretended
    with fusednn.device("CPU") as chosen:
        assert chosen is devices.current() is devices.CPU
        with setting:
            pass
        assert devices.current() is devices.CPU
    assert devices.current() is pretended
    with pytest.raises(KeyError), fusednn.device("cpu"):
        raise KeyError
    assert devices.current() is pretended


def test_other_threads_begin_on_the_cpu(pretended):
    fusednn.device("pretended")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(devices.current()))
    thread.start()
    thread.join()
    assert seen == [devices.CPU]


def test_a_device_is_one_object(pretended):
    assert copy.deepcopy(pretended) is pretended
    assert pickle.loads(pickle.dumps(devices.CPU)) is devices.CPU
    assert repr(devices.CPU) == "<fusednn device cpu>"


@pytest.mark.parametrize("name", ["", "cuda:", "cuda:-1", "cuda:0x1", "tpu", "cpu:0", "cuda:99999"])
def test_other_names_are_refused(name):
    message = f"`name` must be 'cpu', 'cuda' or 'cuda:' and a number. Received: name='{name}'"
    with pytest.raises(ValueError, match=message):
        fusednn.device(name)
    assert devices.current() is devices.CPU


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match=r"`name` must be a string. Received: name=0"):
        fusednn.device(0)


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"needs CuPy: pip install 'fusednn\[cuda\]'"):
        fusednn.device("cuda")
    assert devices.current() is devices.CPU


@pytest.fixture
def cupy(monkeypatch) -> ModuleType:
    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 2))
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_without_the_cuda_library(cupy):
    if _core.cuda_build() != "OFF" or "FUSEDNN_CUDA_LIBRARY" in os.environ:
        pytest.skip("there are CUDA kernels")
    with pytest.raises(RuntimeError, match=r"device\('cuda'\) cannot be used: this build of fused"):
        fusednn.device("cuda")


def test_a_number_that_no_gpu_has(cupy, monkeypatch):
    monkeypatch.setattr(_core, "cuda_device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"there is 2 GPUs, up to 'cuda:1'. Received: .*'cuda:2'"):
        fusednn.device("cuda:2")
    monkeypatch.setattr(_core, "cuda_device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"there is one GPU, 'cuda:0'. Received: .*'cuda:1'"):
        fusednn.device("gpu:1")


def test_where_cupy_finds_no_gpu(cupy, monkeypatch):
    def fails() -> int:
        raise OSError("no driver")

    monkeypatch.setattr(_core, "cuda_device_count", lambda: 1)
    cupy.cuda.runtime.getDeviceCount = fails
    with pytest.raises(RuntimeError, match="cannot be used by CuPy: no driver"):
        fusednn.device("cuda")


def test_where_cublas_is_missing():
    from fusednn.devices.cublas import load_library

    with pytest.raises(RuntimeError, match=r"cuBLAS of CUDA 1 could not be loaded: libcublas"):
        load_library(1)


def test_arrays_of_the_cpu():
    cpu = devices.CPU
    values = np.arange(6.0)
    array = cpu.array(values)
    assert array is not values
    cpu.write(array, values + 1)
    np.testing.assert_array_equal(cpu.read(array), values + 1)
    np.testing.assert_array_equal(cpu.full((2,), 3, "float32"), np.full(2, 3, "f"))
    assert devices.device_of(array) is cpu


def test_threads_that_use_a_gpu_first_at_the_same_time_get_the_same_device(monkeypatch):
    """All of them ask for it before the first one's is made."""
    threads = 4
    together = threading.Barrier(threads)

    class Slow:
        made = 0

        def __init__(self, index: int) -> None:
            type(self).made += 1
            # Without a lock all come here, and go on at once; else nobody else ever comes.
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(timeout=1)

    monkeypatch.setattr("fusednn.devices.cuda.Cuda", Slow)
    monkeypatch.setattr(devices, "_known", {"cpu": devices.CPU})
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(devices.by_name, ["cuda", "gpu", "cuda:0", "GPU:0"]))
    assert Slow.made == 1
    assert all(device is found[0] for device in found)


def test_a_first_use_that_fails_is_tried_again(monkeypatch):
    failing = Mock(side_effect=[RuntimeError("no GPU yet"), "made"])
    monkeypatch.setattr("fusednn.devices.cuda.Cuda", failing)
    monkeypatch.setattr(devices, "_known", {"cpu": devices.CPU})
    with pytest.raises(RuntimeError, match="no GPU yet"):
        devices.by_name("cuda")
    assert devices.by_name("cuda") == "made"
