"""`fusednn.torch.convert` makes one module of each pair, changes nothing else, and is undone."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """A residual block: the activation after the sum is called twice, that of bn1 once."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.act1 = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        y = self.relu(y + x)
        return self.relu(self.bn3(self.conv3(y)))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.LeakyReLU(0.2, inplace=True),
        Block(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.BatchNorm1d(8, affine=False),
        nn.ReLU(),
        nn.BatchNorm1d(8, eps=1e-3, momentum=None),
        nn.Linear(8, 3),
    )


def trained(model, seeds=(1, 2, 3)):
    """Outputs and gradients of some steps, then of an evaluation."""
    results = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in seeds:
        y = model.train()(normal(6, 1, 6, 6, seed=seed))
        optimizer.zero_grad()
        y.square().sum().backward()
        results += [y.detach(), *(p.grad.clone() for p in model.parameters())]
        optimizer.step()
    return [*results, model.eval()(normal(6, 1, 6, 6)), *model.state_dict().values()]


@pytest.mark.parametrize("inplace", [False, True])
def test_converted_models_compute_the_same(inplace):
    model = network()
    fused = ft.convert(copy.deepcopy(model), inplace=inplace)
    assert [type(fused[i]).__name__ for i in (1, 2, 6, 7, 8)] == [
        *("BatchNormLeakyReLU2d", "FusedActivation", "BatchNormLeakyReLU1d", "FusedActivation"),
        "BatchNorm1d",
    ]
    assert fused[1].inplace is inplace
    assert not fused[6].inplace  # ReLU
    assert isinstance(fused[3].bn1, ft.BatchNormLeakyReLU2d)
    for a, b in zip(trained(fused), trained(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_pairs_are_told_with_reasons():
    pairs = {p.batch_norm: (p.activation, p.reason) for p in ft.find_pairs(network())}
    assert pairs["1"] == ("2", None)
    assert pairs["3.bn1"] == ("3.act1", None)
    assert pairs["3.bn2"] == (
        None,
        "its result is used by something else than one activation",
    )
    assert pairs["3.bn3"] == ("3.relu", None)
    assert pairs["6"] == ("7", None)
    assert pairs["8"] == (None, "no activation follows")
    assert list(pairs) == ["1", "6", "8", "3.bn1", "3.bn2", "3.bn3"]


def test_parameters_names_and_modes_stay():
    model = network()
    model[1].eval()
    model[1].weight.requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    before = dict(model.named_parameters()) | dict(model.named_buffers())
    modes = {n: m.training for n, m in model.named_modules()}
    keys = list(model.state_dict())
    assert ft.convert(model) is model
    after = dict(model.named_parameters()) | dict(model.named_buffers())
    assert list(model.state_dict()) == keys
    assert all(after[name] is before[name] for name in before)
    assert {n: m.training for n, m in model.named_modules()} == modes
    model.train()(normal(6, 1, 6, 6)).sum().backward()
    optimizer.step()
    assert ft.convert(model) is model  # nothing is left to do
    assert "LeakyReLU" in repr(model[2])


def test_revert_restores_every_module():
    model = network()
    original = copy.deepcopy(model)
    types = [type(m) for m in model.modules()]
    ft.convert(model, inplace=True)
    trained(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for fused in (model, copy.deepcopy(model), torch.load(file, weights_only=False)):
        expected = fused.eval()(normal(2, 1, 6, 6))
        assert ft.revert(fused) is fused
        assert [type(m) for m in fused.modules()] == types
        assert repr(fused) == repr(original)
        assert vars(fused[1]).keys() == vars(original[1]).keys()
        torch.testing.assert_close(fused(normal(2, 1, 6, 6)), expected)
    ft.revert(model)
    original.load_state_dict(model.state_dict())


class Branches(nn.Module):
    """Cannot be traced: what is called depends on values."""

    def __init__(self):
        super().__init__()
        self.bn, self.act = nn.BatchNorm1d(3), nn.ReLU()

    def forward(self, x):
        return self.act(self.bn(x)) if x.sum() > 0 else x


def shared():
    bn = nn.BatchNorm1d(3)
    return nn.Sequential(bn, nn.ReLU(), bn, nn.ReLU())


def hooked():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    model[0].register_forward_hook(lambda *_: None)
    return model


class Special(nn.BatchNorm1d):
    pass


STAY = {
    "forward cannot be traced: TraceError": Branches,
    "stands in several places": shared,
    "has hooks": hooked,
    "Special is not exactly": lambda: nn.Sequential(Special(3), nn.ReLU()),
    "no activation follows": lambda: nn.Sequential(nn.BatchNorm1d(3), nn.GELU()),
}


@pytest.mark.parametrize("reason", STAY)
def test_what_is_uncertain_stays(reason):
    model = STAY[reason]()
    pairs = ft.find_pairs(model)
    assert pairs
    assert all(reason in p.reason for p in pairs)
    before = [id(m) for m in model.modules()]
    ft.convert(model)
    assert [id(m) for m in model.modules()] == before


def test_a_single_module_has_no_pair():
    norm = nn.BatchNorm1d(3)
    assert ft.convert(norm) is norm
    assert ft.find_pairs(norm) == []


def test_modules_made_by_hand_stay():
    model = nn.Sequential(ft.BatchNormLeakyReLU1d(3), nn.ReLU())
    assert ft.find_pairs(model) == []
    kept = model[0]
    ft.revert(ft.convert(model))
    assert model[0] is kept


@pytest.mark.parametrize("function", [ft.convert, ft.revert, ft.find_pairs])
def test_only_modules_are_taken(function):
    with pytest.raises(TypeError, match=r"`module` must be a torch\.nn\.Module.*type=int"):
        function(3)
    if function is not ft.revert:
        with pytest.raises(TypeError, match="OptimizedModule"):
            function(torch.compile(nn.Linear(1, 1), backend="eager"))
