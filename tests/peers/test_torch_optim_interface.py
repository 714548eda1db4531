"""All that programs do with an optimizer beside stepping it, and what is refused."""

from __future__ import annotations

import inspect

import pytest
import torch
import torch_steps
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch_steps import NAMES, assert_same, pair, params_of, set_gradients, step_both

from fusednn.torch import optim


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_those_of_pytorch(name):
    ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (optim, torch.optim))
    assert list(ours) == [*theirs, "max_norm", "ema"]
    for argument, parameter in theirs.items():
        assert (ours[argument].default, ours[argument].kind) == (parameter.default, parameter.kind)
    own, peer = pair(name)
    assert own.defaults == peer.defaults
    assert repr(own) == repr(peer)
    assert isinstance(own, getattr(torch.optim, name))


@pytest.mark.parametrize("name", NAMES)
def test_groups_with_options_of_their_own(name):
    optimizers = []
    for module in (optim, torch.optim):
        a, b, c, *_ = torch_steps.parameters()
        groups = [{"params": [a], "lr": 0.01}, {"params": [b], "weight_decay": 0.2}]
        optimizer = getattr(module, name)(groups, lr=0.1)
        optimizer.add_param_group({"params": c, "maximize": True})
        optimizers.append(optimizer)
    step_both(*optimizers)
    assert_same(*optimizers)


@pytest.mark.parametrize("option", ["max_norm", "ema"])
def test_options_of_the_whole_optimizer_are_refused_in_a_group(option):
    group = {"params": torch_steps.parameters(), option: 0.5}
    with pytest.raises(ValueError, match=rf"`{option}` must be .* in param_groups\[0\]"):
        optim.SGD([group], lr=0.1)


def test_named_parameters():
    named = [("first", torch_steps.parameters()[0])]
    optimizer = optim.Adam(named)
    set_gradients([named[0][1]], 0)
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["first"]
    named[0][1].grad = torch.zeros(7).to_sparse()
    with pytest.raises(RuntimeError, match=r"`first.grad` must be dense.*sparse_coo"):
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_schedulers(name):
    def schedule(optimizer: torch.optim.Optimizer) -> LRScheduler:
        if name == "Adam":  # cycles beta1 too
            return OneCycleLR(optimizer, max_lr=0.3, total_steps=10)
        return StepLR(optimizer, step_size=2, gamma=0.5)

    ours, theirs = pair(name)
    schedulers = [schedule(ours), schedule(theirs)]
    for step in range(6):
        step_both(ours, theirs, range(step, step + 1))
        for scheduler in schedulers:
            scheduler.step()
    assert ours.param_groups[0]["lr"] != 0.05
    assert_same(ours, theirs)


def test_closure():
    ours, theirs = pair("SGD")
    losses = []
    for optimizer in (ours, theirs):

        def closure(optimizer: torch.optim.Optimizer = optimizer) -> torch.Tensor:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = sum((p**2).sum() for p in params_of(optimizer))
            loss.backward()
            return loss

        with torch.no_grad():
            losses.append(optimizer.step(closure))
    assert torch.equal(*losses)
    assert ours.step() is None
    theirs.step()
    assert_same(ours, theirs)


def test_hooks():
    ours, _ = pair("Adam")
    seen = []
    ours.register_step_pre_hook(lambda *_: seen.append("before"))
    ours.register_step_post_hook(lambda *_: seen.append("after"))
    everywhere = register_optimizer_step_post_hook(lambda *_: seen.append("everywhere"))
    set_gradients(params_of(ours), 0)
    ours.step()
    everywhere.remove()
    assert seen == ["before", "after", "everywhere"]


def test_a_step_is_known_to_autograd():
    ours, _ = pair("Adam")
    first, second, *_ = params_of(ours)
    loss = (first**2).sum() + (second**2).sum()
    set_gradients(params_of(ours), 0, without=1)
    versions = [p._version for p in (first, second)]
    ours.step()
    assert first._version > versions[0]
    assert second._version == versions[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    ours, _ = pair("Adam")
    set_gradients(params_of(ours), 0)
    ours.step()
    ours.zero_grad(set_to_none=set_to_none)
    grads = [p.grad for p in params_of(ours)]
    assert all(g is None if set_to_none else not g.any() for g in grads)
    before = [p.detach().clone() for p in params_of(ours)]
    ours.step()  # without gradients there is nothing to do
    if set_to_none:
        assert all(torch.equal(p, b) for p, b in zip(params_of(ours), before, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unscaled_before", [False, True])
def test_grad_scaler(name, unscaled_before):
    ours, theirs = pair(name)
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) for _ in range(2)]
    for step in range(6):
        for optimizer, scaler in zip((ours, theirs), scalers, strict=True):
            scaler.scale(torch.ones(()))
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
    assert_same(ours, theirs)
    assert not hasattr(ours, "found_inf")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale", [None, 16.0])
def test_max_norm(name, groups, scale):
    optimizers = []
    for module in (optim, torch.optim):
        params = torch_steps.parameters()
        own = {"max_norm": 1.5} if module is optim else {}
        split = (
            [{"params": params}]
            if groups == 1
            else [{"params": params[:2]}, {"params": params[2:]}]
        )
        optimizers.append(getattr(module, name)(split, lr=0.05, **own))
    ours, theirs = optimizers
    for step in range(4):
        for optimizer in optimizers:
            set_gradients(params_of(optimizer), step)
            if step == 3:  # short enough
                for p in params_of(optimizer):
                    p.grad *= 1e-3
        torch.nn.utils.clip_grad_norm_(params_of(theirs), 1.5)
        if scale is not None:
            ours.grad_scale = torch.tensor(scale)
            for p in params_of(ours):
                p.grad *= scale
        kept = [p.grad.clone() for p in params_of(ours)]
        ours.step()
        theirs.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(params_of(ours), kept, strict=True))
    assert_same(ours, theirs)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_max_norm_of_what_is_not_finite(groups, bad):
    results = []
    for module in (optim, torch.optim):
        params = torch_steps.parameters()[:2]
        split = [{"params": params}] if groups == 1 else [{"params": [p]} for p in params]
        own = {"max_norm": 1.0} if module is optim else {}
        optimizer = module.SGD(split, lr=0.05, **own)
        set_gradients(params, 0)
        params[0].grad[3] = bad
        if module is torch.optim:
            torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        results.append(params)
    for own, peer in zip(*results, strict=True):
        torch.testing.assert_close(own, peer, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_sparse_gradients_are_refused(name):
    ours, _ = pair(name)
    params = params_of(ours)
    set_gradients(params, 0)
    params[1].grad = params[1].grad.to_sparse()
    before = [p.detach().clone() for p in params]
    with pytest.raises(
        RuntimeError, match=r"`param_groups\[0\]\['params'\]\[1\].grad` must be dense"
    ):
        ours.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_by_name(name):
    make = getattr(optim, name)
    params = torch_steps.parameters()
    with pytest.raises(NotImplementedError, match=r"`differentiable` must be False.*True"):
        make(params, differentiable=True)
    complex_param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    message = r"`param_groups\[0\]\['params'\]\[1\]` must be float32.*complex parameters.*complex64"
    with pytest.raises(TypeError, match=message):
        make([params[0], complex_param])
    ours = make(params)
    with pytest.raises(TypeError, match=r"`param_groups\[1\]\['params'\]\[0\]` must be.*complex64"):
        ours.add_param_group({"params": complex_param})
    assert len(ours.param_groups) == 1
    with pytest.raises(ValueError, match=r"`max_norm` must be.*max_norm=0"):
        make(params, max_norm=0)
    with pytest.raises(ValueError, match=r"`ema` must be.*ema=1.5"):
        make(params, ema=1.5)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        make(params, lr=-1.0)
    if name in ("SGD", "RMSprop"):
        with pytest.raises(ValueError, match=r"`momentum` must be.*momentum=1.5"):
            make(params, momentum=1.5)
    if name == "RMSprop":
        with pytest.raises(ValueError, match=r"`alpha` must be.*alpha=1.5"):
            make(params, alpha=1.5)


def test_what_no_kernel_can_write():
    memory = torch.zeros(10)
    params = [torch.nn.Parameter(memory[i : i + 6]) for i in (0, 4)]
    ours = optim.SGD(params, lr=0.1)
    set_gradients(params, 0)
    with pytest.raises(ValueError, match=r"`params\[1\]` must not overlap `params\[0\]`"):
        ours.step()
    gaps = torch.nn.Parameter(torch.zeros(6, 4)[:, ::2])
    ours = optim.SGD([gaps], lr=0.1)
    set_gradients([gaps], 0)
    with pytest.raises(ValueError, match=r"`params\[0\]` must be dense"):
        ours.step()


class Wrapper(torch.Tensor):
    """A subclass without memory of its own."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, requires_grad=True)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError


class Named(torch.nn.Parameter):
    """A subclass with memory."""


def test_subclasses():
    plain, named = torch_steps.parameters()[0], Named(torch_steps.parameters()[0].detach())
    for p in (plain, named):
        optimizer = optim.Adam([p], lr=0.05)
        for step in range(2):
            set_gradients([p], step)
            optimizer.step()
    assert torch.equal(plain, named)
    with pytest.raises(TypeError, match=r"`w` must be a tensor that has memory.*type=Wrapper"):
        optim.tensors.memory_of("w", Wrapper(torch.ones(3)))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_fails_changes_nothing(name):
    first, second, *_ = torch_steps.parameters()
    ours = getattr(optim, name)([{"params": [first]}, {"params": [second]}], lr=0.05)
    set_gradients([first, second], 0)
    ours.step()
    before = [p.detach().clone() for p in (first, second)]
    steps = [s["step"].item() for s in ours.state.values() if "step" in s]
    ours.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"`lr` must be.*lr=-1"):
        ours.step()
    assert all(torch.equal(p, b) for p, b in zip((first, second), before, strict=True))
    assert [s["step"].item() for s in ours.state.values() if "step" in s] == steps


@pytest.mark.parametrize("name", NAMES)
def test_a_first_step_that_fails_leaves_no_state(name):
    first, second, *_ = torch_steps.parameters()
    ours = getattr(optim, name)([{"params": [first]}, {"params": [second]}], lr=0.05, ema=0.9)
    states = {p: dict(s) for p, s in ours.state.items()}
    values = [p.detach().clone() for p in (first, second)]
    set_gradients([first, second], 0)
    ours.param_groups[1]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"`lr` must be.*lr=-1"):
        ours.step()
    assert ours.state == states
    assert all(torch.equal(p, v) for p, v in zip((first, second), values, strict=True))


def test_a_profiler_and_hooks_see_the_step():
    ours, _ = pair("Adam")
    set_gradients(params_of(ours), 0)
    with torch.profiler.profile() as profile:
        ours.step()
    assert "Optimizer.step#Adam.step" in {event.name for event in profile.events()}


def test_compiled_code_leaves_the_step_alone():
    ours, theirs = pair("AdamW")
    compiled = torch.compile(lambda: ours.step(), backend="eager")
    for step in range(3):
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step)
        compiled()
        theirs.step()
    assert_same(ours, theirs)
