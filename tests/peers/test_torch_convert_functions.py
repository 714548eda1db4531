"""`convert` where the activation is a function or a shared module: it stays, and finds its mark."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn
functional = nn.functional

import fusednn.torch as ft  # noqa: E402  needs PyTorch
from fusednn.torch.activated import Activated, Marking  # noqa: E402  needs PyTorch


class BasicBlock(nn.Module):
    """As torchvision's: one activation module, called after bn1 and after the sum."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x):
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        out += x
        return self.relu(out)


class Bottleneck(nn.Module):
    """One activation module for three places, two of them behind BatchNorms."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(4, 4, 1, bias=False) for _ in range(3))
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(4) for _ in range(3))
        self.relu = nn.LeakyReLU(0.3)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + x)


class ByFunction(nn.Module):
    """The activation is a given function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.function(self.bn(self.conv(x)))


def leaky(x):
    return functional.leaky_relu(x, 0.2)


def leaky_by_name(x):
    return functional.leaky_relu(input=x, negative_slope=0.2)


def method(x):
    return x.relu()


def method_in_place(x):
    return x.relu_()


def in_place(x):
    return functional.relu(x, inplace=True)


FUNCTIONS = [
    *(functional.relu, torch.relu, torch.relu_, functional.leaky_relu, functional.leaky_relu_),
    *(leaky, leaky_by_name, method, method_in_place, in_place),
]
MODELS = {
    "basic": (BasicBlock, ["bn1"]),
    "bottleneck": (Bottleneck, ["bn1", "bn2"]),
    **{f"{i}-{f.__name__}": (lambda f=f: ByFunction(f), ["bn"]) for i, f in enumerate(FUNCTIONS)},
}


def normal(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 4, 5, 5, generator=generator, dtype=torch.float64)


def made(name):
    torch.manual_seed(0)
    return MODELS[name][0]().double()


def trained(model, call=None):
    """Outputs and gradients of three steps, then of an evaluation, and the state."""
    call = model if call is None else call
    results = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in (1, 2, 3):
        model.train()
        y = call(normal(seed))
        assert type(y) is torch.Tensor
        optimizer.zero_grad()
        y.square().sum().backward()
        results += [y.detach(), *(p.grad.clone() for p in model.parameters())]
        optimizer.step()
    with torch.no_grad():
        model.eval()
        return [*results, call(normal()), *model.state_dict().values()]


def check_same(fused, plain):
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_computes_the_same_and_is_undone(name, inplace):
    model, norms = made(name), MODELS[name][1]
    fused = ft.convert(copy.deepcopy(model), inplace=inplace)
    assert [n for n, m in fused.named_modules() if isinstance(m, Marking)] == norms
    assert list(fused.state_dict()) == list(model.state_dict())
    check_same(trained(fused), trained(model))
    assert all(p.reason is None and p.activation_stays for p in ft.find_pairs(model)[: len(norms)])
    ft.convert(fused)
    assert repr(ft.revert(fused)) == repr(model)
    check_same([fused(normal())], [model(normal())])


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_the_activation_computes_nothing(name):
    fused = ft.convert(made(name))
    y = fused.bn1(fused.conv1(normal()))
    assert type(y) is Activated
    z = fused.relu(y)
    assert z is y
    assert type(z) is torch.Tensor
    assert z.grad_fn is not None
    assert vars(z) == {}


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_it_computes_the_same(name, backend):
    model = made(name)
    fused = ft.convert(copy.deepcopy(model))
    torch._dynamo.reset()
    compiled = torch.compile(fused, fullgraph=True, backend=backend)
    check_same(trained(fused, compiled), trained(model))


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_exported_traced_and_saved_it_computes_the_same(name):
    model = made(name)
    trained(model)
    fused = ft.convert(copy.deepcopy(model)).eval()
    expected = model.eval()(normal())
    file = io.BytesIO()
    torch.save(fused, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    exported = torch.export.export(fused, (normal(),)).module()
    by_graph = torch.fx.symbolic_trace(fused)
    for call in (loaded, copy.deepcopy(fused), exported, by_graph):
        torch.testing.assert_close(call(normal()), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "read", [torch.sum, lambda y: y + 1, leaky, repr, torch.Tensor.detach, lambda y: y[0]]
)
def test_no_other_reader_gets_the_values(read):
    fused = ft.convert(made("basic"))
    y = fused.bn1(normal())
    assert y.shape == (6, 4, 5, 5)
    with pytest.raises(RuntimeError, match=r"must go to that activation.*`revert`"):
        read(y)
    assert fused.relu(y).min() >= 0


def test_a_synchronised_one_marks_its_result_too():
    fused = ft.convert_sync_batchnorm(ft.convert(made("bottleneck")))
    assert isinstance(fused.bn1, ft.SyncBatchNormLeakyReLU)
    check_same(trained(fused), trained(made("bottleneck")))
    assert type(fused.bn1(normal())) is Activated


def test_a_slope_that_depends_on_the_call_stays():
    class Given(ByFunction):
        def forward(self, x, slope):
            return functional.leaky_relu(self.bn(x), slope)

    assert "something else than one activation" in ft.find_pairs(Given(None))[0].reason
