"""`num_batches_tracked` of `fusednn.torch`'s modules, counted without `add_` where it may be."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import fusednn.torch as ft  # noqa: E402
from fusednn import _core  # noqa: E402
from fusednn.torch import autograd  # noqa: E402


class Counter(torch.Tensor):
    """A subclass, which must see that it is counted."""


COUNTERS = {
    "int64": lambda: torch.tensor(2**40),
    "part": lambda: torch.arange(5)[3],
    "int32": lambda: torch.tensor(7, dtype=torch.int32),
    "uint8": lambda: torch.tensor(255, dtype=torch.uint8),
    "float32": lambda: torch.tensor(7.0),
    "float64": lambda: torch.tensor(7.5, dtype=torch.float64),
    "vector": lambda: torch.tensor([7]),
    "two": lambda: torch.tensor([7, 8]),
    "subclass": lambda: torch.tensor(7).as_subclass(Counter),
}


def train(counter, module=ft.BatchNormLeakyReLU1d, x=None):
    """One batch, counted by `counter`."""
    layer = module(3)
    layer._buffers["num_batches_tracked"] = counter
    layer(torch.randn(4, 3) if x is None else x)
    assert layer.num_batches_tracked is counter


@pytest.mark.parametrize("exchanged", [True, False], ids=["exchange", "attributes"])
@pytest.mark.parametrize("kind", COUNTERS)
def test_a_batch_counts_as_add_does(kind, exchanged):
    counter, expected = COUNTERS[kind](), COUNTERS[kind]().add_(1)
    version = counter._version
    before = _core.use_exchange_api(exchanged)
    try:
        train(counter)
    finally:
        _core.use_exchange_api(before)
    assert torch.equal(counter, expected)
    assert counter._version > version


def test_a_part_leaves_its_neighbours_alone():
    numbers = torch.arange(5)
    train(numbers[3])
    assert numbers.tolist() == [0, 1, 2, 4, 4]


def test_only_a_plain_integer_is_counted_without_pytorch():
    for kind in COUNTERS:
        assert _core.count_up(COUNTERS[kind]()) == (kind in {"int64", "part"})
    for other in (7, None, "7", [7], torch.tensor(7).numpy()):
        assert not _core.count_up(other)


def test_who_watches_the_dispatcher_sees_the_count():
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    seen = []
    counter = torch.tensor(0)
    with Watch():
        train(counter)
    assert "aten::add_" in seen
    assert counter == 1


def test_a_counter_of_inference_mode_is_counted_there():
    with torch.inference_mode():
        counter = torch.tensor(0)
        train(counter)
    assert counter == 1


@pytest.mark.parametrize(
    "x", [torch.ones(1, 3), torch.ones(4, 3, dtype=torch.int32), torch.ones(4, 3).double()]
)
@pytest.mark.parametrize("exchanged", [True, False], ids=["exchange", "attributes"])
def test_a_batch_that_is_refused_is_not_counted(x, exchanged):
    layer = ft.BatchNormLeakyReLU1d(3)
    before = _core.use_exchange_api(exchanged)
    try:
        with pytest.raises((TypeError, ValueError), match="Received"):
            layer(x)
    finally:
        _core.use_exchange_api(before)
    assert layer.num_batches_tracked == 0


def test_a_counter_without_memory_is_left_to_pytorch():
    counter = torch._efficientzerotensor((), dtype=torch.int64)
    assert not _core.count_up(counter)
    with pytest.raises(RuntimeError, match="ZeroTensors are immutable"):
        train(counter)


def test_the_backward_pass_is_called_as_that_of_other_functions():
    layer = ft.BatchNormLeakyReLU1d(3)
    x, grad = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    y = layer(x)
    assert y.grad_fn.name() == "TrainingBackward"
    inputs = (x, layer.weight, layer.bias)
    *by_hand, options = y.grad_fn.apply(grad)
    assert options is None
    for a, b in zip(by_hand, torch.autograd.grad(y, inputs, grad), strict=True):
        assert torch.equal(a, b)


def test_without_inductors_allocator_gradients_are_the_same(monkeypatch):
    layer, x = ft.BatchNormLeakyReLU1d(3), torch.randn(4, 3, requires_grad=True)
    inputs = (x, layer.weight, layer.bias)
    usual = torch.autograd.grad(layer(x).square().sum(), inputs)
    called = []

    def allocate(shape, strides, dtype):
        called.append(shape)
        return autograd._empty_strided(shape, strides, dtype)

    monkeypatch.setattr(autograd, "_empty_on_cpu", allocate)
    for a, b in zip(usual, torch.autograd.grad(layer(x).square().sum(), inputs), strict=True):
        assert torch.equal(a, b)
    assert called == [(3,), (3,)]
