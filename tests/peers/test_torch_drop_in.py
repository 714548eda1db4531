"""The modules beside PyTorch's: arguments, `torch.fx`, arrays without the exchange API."""

from __future__ import annotations

import copy
import inspect

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch
from fusednn import _core  # noqa: E402

PAIRS = {
    ft.BatchNormLeakyReLU1d: nn.BatchNorm1d,
    ft.BatchNormLeakyReLU2d: nn.BatchNorm2d,
    ft.BatchNormLeakyReLU3d: nn.BatchNorm3d,
    ft.SyncBatchNormLeakyReLU: nn.SyncBatchNorm,
}
SHAPES = {1: (9, 4), 2: (5, 4, 3, 2), 3: (2, 4, 3, 2, 2)}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("own", "theirs"), PAIRS.items(), ids=lambda c: c.__name__)
def test_arguments_are_those_of_pytorch_and_two_more(own, theirs):
    ours, peers = (dict(inspect.signature(c.__init__).parameters) for c in (own, theirs))
    assert ours.keys() - peers.keys() <= {"negative_slope", "inplace", "bias"}
    assert peers.keys() <= ours.keys()
    positional = [n for n in peers if n not in ("device", "dtype", "bias")]
    assert list(ours)[: len(positional)] == positional
    for name in peers.keys() & ours.keys() - {"bias"}:
        assert (ours[name].default, ours[name].kind) == (peers[name].default, peers[name].kind)
    assert ours["bias"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.skipif("bias" not in inspect.signature(nn.BatchNorm1d).parameters, reason="older")
def test_a_weight_without_a_bias():
    own = ft.BatchNormLeakyReLU1d(4, bias=False)
    theirs = nn.Sequential(nn.BatchNorm1d(4, bias=False), nn.LeakyReLU())
    assert list(own.state_dict()) == list(theirs[0].state_dict())
    x = normal(9, 4).requires_grad_()
    y, expected = own(x), theirs(x)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(own.weight.grad, theirs[0].weight.grad)
    assert "bias=False" in repr(own)
    assert ft.SyncBatchNormLeakyReLU(4, bias=False).bias is None
    fused = ft.convert(copy.deepcopy(theirs))
    torch.testing.assert_close(fused(x), theirs(x))
    torch.testing.assert_close(ft.revert(fused)(x), theirs(x))


@pytest.mark.parametrize("momentum", [1.5, -0.25, 0.0, 1.0])
def test_any_momentum_that_pytorch_takes(momentum):
    own, theirs = (
        ft.BatchNormLeakyReLU1d(4, momentum=momentum),
        nn.BatchNorm1d(4, momentum=momentum),
    )
    for seed in range(3):
        x = normal(9, 4, seed=seed)
        torch.testing.assert_close(own(x), nn.functional.leaky_relu(theirs(x)))
    torch.testing.assert_close(own.state_dict(), theirs.state_dict())
    before = own.running_var.clone()
    own(normal(0, 4))
    assert torch.equal(own.running_var, before)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_symbolic_traces_take_them_for_leaves(rank):
    kind = list(PAIRS)[rank - 1]
    model = nn.Sequential(kind(4), ft.SyncBatchNormLeakyReLU(4))
    traced = torch.fx.symbolic_trace(model)
    called = [n.target for n in traced.graph.nodes if n.op == "call_module"]
    assert called == ["0", "1"]
    assert type(traced.get_submodule("0")) is kind
    x = normal(*SHAPES[rank])
    torch.testing.assert_close(traced.eval()(x), model.eval()(x))


def test_symbolic_traces_of_converted_models():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    fused = ft.convert(copy.deepcopy(model))
    traced = torch.fx.symbolic_trace(fused)
    x = normal(9, 4)
    torch.testing.assert_close(traced(x), model(x))
    torch.testing.assert_close(traced.get_submodule("1").running_var, model[1].running_var)


@pytest.fixture(params=[True, False], ids=["exchange API", "__dlpack__"])
def exchange_api(request):
    before = _core.use_exchange_api(request.param)
    yield
    _core.use_exchange_api(before)


@pytest.mark.usefixtures("exchange_api")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_modules_on_either_way_of_arrays(rank, dtype, inplace):
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    own = list(PAIRS)[rank - 1](4, inplace=inplace, dtype=statistics)
    theirs = nn.Sequential(list(PAIRS.values())[rank - 1](4, dtype=statistics), nn.LeakyReLU())
    tolerance = {torch.float16: 2e-2, torch.bfloat16: 1e-1}.get(dtype, 1e-4)
    x, grad = (normal(*SHAPES[rank], seed=s).to(dtype) for s in (1, 2))
    for training in (True, False):
        results = []
        for module in (own.train(training), theirs.train(training)):
            leaf = x.clone().requires_grad_()
            y = module(leaf * 1)
            y.backward(grad)
            results.append([y.detach(), leaf.grad, *(p.grad for p in module.parameters())])
            module.zero_grad()
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(own.state_dict(), theirs[0].state_dict(), rtol=1e-3, atol=1e-3)
