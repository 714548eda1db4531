"""`find_pairs` takes a pair only where every `forward` shows it; tracing leaves nothing."""

from __future__ import annotations

import copy
import functools

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import fusednn.torch as ft  # noqa: E402  needs PyTorch


class Model(nn.Module):
    """BatchNorms and activations, also in a `Sequential`; its `forward` is a given function."""

    def __init__(self, function):
        super().__init__()
        self.function = (function,)
        self.bn, self.act = nn.BatchNorm1d(4), nn.LeakyReLU()
        self.features = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.layers = nn.ModuleList([nn.BatchNorm1d(4), nn.ReLU()])
        self.on, self.out, self.outs, self.calls = True, None, [], 0

    def forward(self, x):
        return self.function[0](self, x)


def whole(m, x):
    return m.act(m.bn(m.features(x)))


def keeps_results(m, x):
    for layer in m.features:
        x = layer(x)
        m.outs.append(x)
    return x


def iterates(m, x):
    for layer in (*m.features, *m.layers):
        x = layer(x)
    return x


def branches_on_mode(m, x):
    y = m.bn(x)
    return m.act(y) if m.training else y


def activates_in_evaluation(m, x):
    y = m.bn(x)
    return y if m.training else m.act(y)


def keeps_one(m, x):
    m.out = m.bn(x)
    return m.act(m.out)


GLOBAL = []


def keeps_elsewhere(m, x):
    y = m.bn(x)
    GLOBAL.append(y)
    return m.act(y)


def slices(m, x):
    return m.features[:2](x)


def calls_in_and_out(m, x):
    return m.features(x) + m.features[1](x)


def in_place_for_effect(m, x):
    y = m.bn(x)
    m.act(y)
    return y


def function_after(m, x):
    return nn.functional.relu(m.bn(x))


SURE = {
    whole: {"bn": "act", "features.1": "features.2"},
    iterates: {"features.1": "features.2", "layers.0": "layers.1"},
    function_after: {"bn": "relu()"},
}
UNSURE = {
    keeps_results: ("features.1", "its result is kept by forward"),
    keeps_one: ("bn", "its result is kept by forward"),
    keeps_elsewhere: ("bn", "its result is kept by forward"),
    branches_on_mode: ("bn", "other calls in evaluation"),
    activates_in_evaluation: ("bn", "other calls in evaluation"),
    slices: ("features.1", "forward cannot be traced: NameError: module is not installed"),
    calls_in_and_out: ("features.1", "it is called 2 times"),
    in_place_for_effect: ("bn", "used by something else than one activation"),
}


def evaluated_both_ways(model, x):
    return [model.train(mode)(x) for mode in (True, False)]


def check_same_results(model):
    fused = ft.convert(copy.deepcopy(model))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for a, b in zip(evaluated_both_ways(fused, x), evaluated_both_ways(model, x), strict=True):
        torch.testing.assert_close(a, b)
    for name in ("out", "outs"):
        torch.testing.assert_close(getattr(fused, name), getattr(model, name))


@pytest.mark.parametrize("function", SURE, ids=lambda f: f.__name__)
def test_pairs_that_every_forward_shows(function):
    pairs = ft.find_pairs(Model(function))
    assert {p.batch_norm: p.activation for p in pairs if p.reason is None} == SURE[function]
    check_same_results(Model(function))


@pytest.mark.parametrize("function", UNSURE, ids=lambda f: f.__name__)
def test_what_is_not_certain_has_a_reason(function):
    name, reason = UNSURE[function]
    pairs = {p.batch_norm: p for p in ft.find_pairs(Model(function))}
    assert reason in pairs[name].reason
    check_same_results(Model(function))
    GLOBAL.clear()


class Optional(nn.Module):
    """Leaves the activation out where a tensor is not given, or where it is told to."""

    def __init__(self):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm1d(4) for _ in range(3))
        self.act1, self.act2, self.act3 = (nn.ReLU() for _ in range(3))

    def forward(self, x, residual=None, activate=True, *, scale=1.0):
        x = self.act1(self.bn1(x)) * scale
        x = self.bn2(x) if residual is None else self.act2(self.bn2(x)) + residual
        x = self.bn3(x)
        return self.act3(x) if activate else x


def test_optional_arguments_are_given_and_not():
    pairs = {p.batch_norm: p.reason for p in ft.find_pairs(Optional())}
    assert pairs["bn1"] is None
    assert "with other optional arguments" in pairs["bn2"]
    assert "with other optional arguments" in pairs["bn3"]


def test_tracing_leaves_nothing_in_the_model():
    def changes(m, x):
        m.calls += 1
        m.out = x
        m.outs.append(x)
        m.act.seen = x
        return m.act(m.bn(x))

    model = Model(changes)
    before = {name: dict(vars(m)) for name, m in model.named_modules()}
    assert ft.find_pairs(model)[0].reason is None
    assert {name: vars(m) for name, m in model.named_modules()} == before
    assert (model.calls, model.out, model.outs) == (0, None, [])


class NoForward(nn.Module):
    def __init__(self, *modules):
        super().__init__()
        self.parts = nn.ModuleList(modules)


class Features(nn.Sequential):
    """A Sequential by another name."""


def pair(kind=nn.Sequential):
    return kind(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU())


@pytest.mark.parametrize(
    "model",
    [
        pair,
        functools.partial(pair, Features),
        lambda: nn.Sequential(pair(), pair(Features)),
        lambda: NoForward(pair(), Model(whole)),
        lambda: nn.ModuleDict({"a": pair()}),
        lambda: nn.DataParallel(pair()),
        lambda: torch.optim.swa_utils.AveragedModel(pair()),
    ],
)
def test_sequentials_that_are_called_as_a_whole(model):
    pairs = [p for p in ft.find_pairs(model()) if "layers" not in p.batch_norm]
    assert pairs
    assert all(p.reason is None for p in pairs)


def test_a_sequential_in_what_cannot_be_traced_stays():
    def depends_on_values(m, x):
        return m.features(x) if x.sum() > 0 else x

    outer = nn.Sequential(nn.Linear(4, 4), Model(depends_on_values))
    assert {p.reason for p in ft.find_pairs(outer)} == {
        "forward cannot be traced: TraceError: symbolically traced variables cannot be used as "
        "inputs to control flow"
    }
    check_same_results(outer[1])


def test_a_forward_of_one_object_alone_is_not_traced():
    model = Model(whole)
    model.forward = lambda x: model.bn(x)
    assert "it is not that of the class" in ft.find_pairs(model)[0].reason
    model = pair()
    model[1].forward = lambda x: x
    assert "is not that of its class" in ft.find_pairs(model)[0].reason


def test_a_slope_that_is_not_finite_has_a_reason():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.LeakyReLU(float("inf")))
    assert ft.find_pairs(model)[0].reason == "negative_slope is not finite: inf"


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.bn, self.act = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LeakyReLU()

    def forward(self, x):
        y = self.linear(x)
        return self.act(self.bn(y)) + y


@pytest.mark.parametrize(
    ("model", "overwrites"),
    [
        (pair, True),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()), False),
        (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.LeakyReLU()), False),  # the caller's input
        (lambda: nn.Sequential(nn.Dropout(), nn.BatchNorm1d(4), nn.LeakyReLU()), False),
        (Shortcut, False),
    ],
)
def test_in_place_only_over_what_nobody_else_has(model, overwrites):
    model = model()
    assert [p.may_overwrite for p in ft.find_pairs(model)] == [overwrites]
    fused = ft.convert(copy.deepcopy(model), inplace=True)
    assert [m.inplace for m in fused.modules() if hasattr(m, "num_features")] == [overwrites]
    x = torch.randn(5, 4)
    before = x.clone()
    for module in (fused, model):
        module.eval()
    torch.testing.assert_close(fused(x), model(x))
    assert torch.equal(x, before)
