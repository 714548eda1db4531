"""`fusednn.torch` on a GPU beside PyTorch: modules, optimizers, a scaler, a captured training step.

Where there is no GPU PyTorch's CPU tensors stand for those of one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from devices import STANDS_IN, Torch, TorchStandIn, available

torch = pytest.importorskip("torch")

import fusednn.torch as ft  # noqa: E402  needs PyTorch
from fusednn.torch import optim  # noqa: E402
from fusednn.torch.sync import SyncTraining  # noqa: E402

pytestmark = pytest.mark.short

nn, dist = torch.nn, torch.distributed
SLOPE = 0.1
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float64: 1e-10}


@pytest.fixture
def cuda() -> Any:
    if "torch" not in available():
        pytest.skip("PyTorch sees no GPU")
    torch.manual_seed(0)
    return TorchStandIn() if STANDS_IN else Torch()


def assert_close(ours: Any, theirs: Any, dtype: Any = torch.float32) -> None:
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)


def layers(channels: int, cuda: Any, **how: Any) -> tuple[Any, Any]:
    """Ours, and PyTorch's two with the same parameters."""
    ours = ft.BatchNormLeakyReLU2d(channels, negative_slope=SLOPE, **how).to(cuda.where)
    with torch.no_grad():
        ours.weight.uniform_(0.5, 1.5)
        ours.bias.normal_()
    theirs = nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE)).to(cuda.where)
    theirs[0].load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("dtype", "inplace"),
    [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)],
    ids=["float32", "bfloat16", "in place"],
)
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_modules(cuda, last, dtype, inplace, training):
    ours, theirs = (m.train(training) for m in layers(6, cuda, inplace=inplace))
    x, grad = (torch.randn(4, 6, 7, 5, device=cuda.where) for _ in range(2))
    if last:
        x, grad = (t.to(memory_format=torch.channels_last) for t in (x, grad))
    results = []
    for module, kind in ((ours, dtype), (theirs, torch.float32)):
        leaf = x.to(dtype).to(kind).requires_grad_()
        y = module(leaf + 0)  # what is overwritten is no leaf
        y.backward(grad.to(dtype).to(kind))
        gradients = leaf.grad, *(p.grad for p in module.parameters())
        results.append([y.detach(), *gradients, *module.buffers()])
    assert results[0][0].stride() == x.stride()
    for own, peer in zip(*results, strict=True):
        assert_close(own, peer, dtype)


def test_autocast(cuda):
    convolution = nn.Conv2d(3, 6, 3).to(cuda.where)
    ours, theirs = layers(6, cuda)
    x = torch.randn(4, 3, 9, 9, device=cuda.where)
    results = []
    for module in (ours, theirs):
        with torch.autocast(cuda.where, torch.bfloat16):
            y = module(convolution(x))
        assert y.dtype == torch.bfloat16
        y.float().square().mean().backward()
        results.append([y.detach(), *(p.grad for p in module.parameters())])
    for own, peer in zip(*results, strict=True):
        assert_close(own, peer, torch.bfloat16)


def parameters(cuda: Any) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    shapes = (7,), (3, 5, 7), (97,), (), (0, 4)
    made = [torch.randn(shape, generator=generator) for shape in shapes]
    return [nn.Parameter(p.to(cuda.where)) for p in made]


def set_gradients(params: list[Any], step: int, without: int | None = None) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for i, p in enumerate(params):
        grad = torch.randn(p.shape, generator=generator).to(p.device)
        p.grad = None if i == without else grad


CASES = [
    *(("SGD", {"momentum": 0.9}), ("SGD", {"fused": True, "nesterov": True, "momentum": 0.9})),
    *(("Adagrad", {}), ("RMSprop", {"momentum": 0.9}), ("RMSprop", {"capturable": True})),
    *(("Adam", {}), ("Adam", {"fused": True, "amsgrad": True}), ("Adam", {"capturable": True})),
    *(("AdamW", {"fused": True}), ("AdamW", {"fused": True, "maximize": True})),
]
each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def pair(name: str, options: dict[str, Any], cuda: Any) -> tuple[Any, Any]:
    if options.get("capturable") and cuda.host:
        pytest.skip("`capturable` is for a GPU")
    # A rate that lies on the GPU is read there.
    tensor_rate = options.get("capturable") or options.get("fused")
    lr: Any = torch.tensor(0.05, device=cuda.where) if tensor_rate else 0.05
    made = [
        getattr(module, name)(parameters(cuda), lr=lr, **options) for module in (optim, torch.optim)
    ]
    return made[0], made[1]


def params_of(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def assert_same_states(ours: Any, theirs: Any) -> None:
    for own, peer in zip(params_of(ours), params_of(theirs), strict=True):
        assert_close(own.detach(), peer.detach())
        assert set(ours.state[own]) == set(theirs.state[peer])
        for name, value in theirs.state[peer].items():
            assert_close(ours.state[own][name], value)


@each_case
def test_optimizers(cuda, name, options):
    ours, theirs = pair(name, options, cuda)
    for step in range(6):
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step, without=step % 4 if step > 1 else None)
            optimizer.step()
        assert_same_states(ours, theirs)


@each_case
def test_states_are_loaded_both_ways(cuda, name, options):
    first, second = pair(name, options, cuda), pair(name, options, cuda)
    for optimizer in first:
        set_gradients(params_of(optimizer), 0)
        optimizer.step()
    for saved, other in zip(first, reversed(second), strict=True):
        other.load_state_dict(saved.state_dict())
        with torch.no_grad():
            for p, q in zip(params_of(other), params_of(saved), strict=True):
                p.copy_(q)
        set_gradients(params_of(other), 1)
        other.step()
    assert_same_states(*second)


@each_case
@pytest.mark.parametrize("unscaled_before", [False, True])
def test_a_scaler(cuda, name, options, unscaled_before):
    both = pair(name, options, cuda)
    scalers = [torch.amp.GradScaler(cuda.where, init_scale=8.0, growth_interval=2) for _ in both]
    for step in range(6):
        for optimizer, scaler in zip(both, scalers, strict=True):
            scaler.scale(torch.ones((), device=cuda.where))
            params = params_of(optimizer)
            set_gradients(params, step)
            for p in params:
                p.grad *= scaler.get_scale()
            if step == 3:
                params[0].grad[1] = float("inf")
            if unscaled_before:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        assert scalers[0].get_scale() == scalers[1].get_scale()
    assert_same_states(*both)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale", [None, 16.0])
def test_clipping_by_the_norm(cuda, scale, groups):
    results = []
    for module in (optim, torch.optim):
        params = parameters(cuda)
        split = [{"params": params[:2]}, {"params": params[2:]}]
        given = params if groups == 1 else split
        own = {"max_norm": 1.5} if module is optim else {}
        optimizer = module.Adam(given, lr=0.05, fused=True, **own)
        for step in range(3):
            set_gradients(params, step)
            if module is torch.optim:
                nn.utils.clip_grad_norm_(params, 1.5)
            elif scale is not None:
                optimizer.grad_scale = torch.tensor(scale, device=cuda.where)
                for p in params:
                    p.grad *= scale
            optimizer.step()
        results.append([p.detach() for p in params])
    for own, peer in zip(*results, strict=True):
        assert_close(own, peer)


class Training:
    """A network, its optimizer, and a step of both."""

    def __init__(self, cuda: Any) -> None:
        torch.manual_seed(2)
        self.model = nn.Sequential(
            *(nn.Linear(12, 16), ft.BatchNormLeakyReLU1d(16), nn.Linear(16, 4))
        ).to(cuda.where)
        rate = torch.tensor(0.01, device=cuda.where)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=rate, fused=True, max_norm=1.0)
        self.x = torch.randn(64, 12, device=cuda.where)
        self.y = torch.randint(4, (64,), device=cuda.where)

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()


def test_a_captured_training_step_is_the_step(cuda):
    """Forward, backward and the optimizer in one graph, with new data in the same tensors."""
    if cuda.host:
        pytest.skip("a graph is of a GPU")
    captured, plain = Training(cuda), Training(cuda)
    replay = cuda.graph(captured.step)
    plain.step()
    for step in range(4):
        torch.manual_seed(10 + step)
        x, y = torch.randn_like(plain.x), torch.randint_like(plain.y, 4)
        rate = 0.01 / (1 + step)
        for training in (captured, plain):
            training.x.copy_(x)
            training.y.copy_(y)
            training.optimizer.param_groups[0]["lr"].fill_(rate)
        replay()
        plain.step()
        for own, peer in zip(
            captured.model.state_dict().values(), plain.model.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(own, peer, rtol=1e-3, atol=1e-3)
    counts = {float(s["step"]) for s in captured.optimizer.state.values()}
    assert counts == {5.0}


def test_tensors_of_a_subclass(cuda):
    class Own(torch.Tensor):
        pass

    x = torch.randn(5, 4, device=cuda.where)
    module = ft.BatchNormLeakyReLU1d(4).to(cuda.where)
    expected = copy.deepcopy(module)(x)
    y = module(x.as_subclass(Own))
    assert_close(y.detach().as_subclass(torch.Tensor), expected.detach())


def test_operators_of_traced_programs(cuda):
    module = ft.BatchNormLeakyReLU1d(4).to(cuda.where)
    x = torch.randn(9, 4, device=cuda.where)
    expected = copy.deepcopy(module)(x)
    traced = torch.compile(module, backend="eager", fullgraph=True)
    assert_close(traced(x).detach(), expected.detach())
    torch.compiler.reset()


@pytest.fixture
def group(cuda, monkeypatch) -> Iterator[None]:
    """This process alone, as NCCL sees it; gloo where there is no GPU."""
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")  # a machine may have no other
    where = {} if cuda.host else {"device_id": torch.device("cuda", 0)}
    backend = "gloo" if cuda.host else "nccl"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, **where)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_statistics_of_a_group(cuda, dtype):
    """All of what a group of several does, gathering included."""
    ours, _ = layers(6, cuda)
    peer = copy.deepcopy(ours)
    x, grad = (torch.randn(4, 6, 7, 5, device=cuda.where).to(dtype) for _ in range(2))
    leaf, other = (x.clone().requires_grad_() for _ in range(2))
    ours.num_batches_tracked.add_(1)
    running = ours.running_mean, ours.running_var, ours.momentum, ours.num_batches_tracked
    y = SyncTraining.apply(leaf, ours.weight, ours.bias, running, ours.eps, SLOPE, None)
    y.backward(grad)
    z = peer(other)
    z.backward(grad)
    results = [
        [out.detach(), given.grad, *(p.grad for p in module.parameters()), *module.buffers()]
        for out, given, module in ((y, leaf, ours), (z, other, peer))
    ]
    for own, theirs in zip(*results, strict=True):
        assert_close(own, theirs, dtype)
