"""States of `fusednn.torch.optim`: saved, loaded both ways mid-training, copied, averaged."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch_steps
from torch_steps import NAMES, assert_same, pair, params_of, set_gradients, step_both

from fusednn.torch import optim

OPTIONS = {
    "SGD": {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.2},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"weight_decay": 0.1},
    "Adamax": {"betas": (0.8, 0.9), "weight_decay": 0.1},
}


def same_bits(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> bool:
    return all(
        torch.equal(a, b)
        and all(torch.equal(s, other.state[b][n]) for n, s in one.state[a].items())
        for a, b in zip(params_of(one), params_of(other), strict=True)
    )


def moved(optimizer: torch.optim.Optimizer, to: type[torch.optim.Optimizer], **options):
    """An optimizer of another class that goes on where this one is, through a file."""
    params = [torch.nn.Parameter(p.detach().clone()) for p in params_of(optimizer)]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = to(params, **options)
    other.load_state_dict(torch.load(file))
    return other


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=torch_steps.case_id)
@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_goes_on_in_the_other_package(name, dtype):
    options = OPTIONS[name]
    if dtype == torch.bfloat16:
        options = options | {"eps": 0.1} if name == "Adam" else {}
    ours, theirs = pair(name, dtype, **options)
    step_both(ours, theirs, range(3))
    from_theirs = moved(theirs, getattr(optim, name))
    from_ours = moved(ours, getattr(torch.optim, name))
    assert from_theirs.param_groups[0]["lr"] == 0.05
    step_both(from_theirs, theirs, range(3, 8))
    step_both(ours, from_ours, range(3, 8))
    assert_same(from_theirs, theirs)
    assert_same(ours, from_ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=torch_steps.case_id)
@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_goes_on_with_the_same_bits(name, dtype):
    ours, _ = pair(name, dtype, ours={"ema": 0.9, "max_norm": 2.0}, **OPTIONS[name])
    step_both(ours, _, range(3))
    other = moved(ours, getattr(optim, name), ema=0.9, max_norm=2.0)
    step_both(ours, other, range(3, 6))
    assert same_bits(ours, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"]
)
def test_copies_go_on_with_the_same_bits(name, copied):
    ours, _ = pair(name, ours={"ema": 0.9, "max_norm": 1.0}, **OPTIONS[name])
    step_both(ours, _, range(3))
    other = copied(ours)
    assert type(other) is type(ours)
    assert (other.max_norm, other.ema, other._step_supports_amp_scaling) == (1.0, 0.9, True)
    step_both(ours, other, range(3, 6))
    assert same_bits(ours, other)


@pytest.mark.parametrize("name", NAMES)
def test_states_that_are_replaced_count(name):
    """As programs do that prune, or split parameters."""
    ours, theirs = pair(name, **OPTIONS[name])
    step_both(ours, theirs, range(3))
    for optimizer in (ours, theirs):
        group, state = optimizer.param_groups[0], optimizer.state
        old = group["params"][2]
        new = torch.nn.Parameter(old.detach()[:50].clone())
        kept = state.pop(old)
        state[new] = {n: s[:50].clone() if s.dim() else s for n, s in kept.items()}
        group["params"][2] = new
        for value in state[group["params"][0]].values():
            if value.dim():
                value.data = value * 0.5  # another address in the same tensor
    step_both(ours, theirs, range(3, 6))
    assert_same(ours, theirs)


def test_states_appear_as_in_pytorch():
    ours, theirs = pair("SGD")
    step_both(ours, theirs, range(1))
    assert not any(ours.state.values())
    assert [p["lr"] for p in ours.param_groups] == [0.05]
    ours, theirs = pair("Adagrad", initial_accumulator_value=0.3)
    assert_same(ours, theirs)
    ours, theirs = pair("Adam")
    for optimizer in (ours, theirs):
        set_gradients(params_of(optimizer), 0, without=2)
        optimizer.step()
    assert list(ours.state) == [p for i, p in enumerate(params_of(ours)) if i != 2]
    assert [s["step"].dtype for s in ours.state.values()] == [torch.float32] * 4


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        ("SGD", {}, {"momentum": 0.9}),
        ("SGD", {}, {"momentum": 0.9, "dampening": 0.5}),
        ("RMSprop", {}, {"momentum": 0.9, "centered": True}),
        ("Adam", {}, {"amsgrad": True}),
    ],
)
def test_an_option_that_begins_later_starts_its_state_at_zero(name, options, change):
    ours, theirs = pair(name, ours={"ema": 0.5}, **options)
    step_both(ours, theirs, range(2))
    averages = [ours.state[p]["ema"].clone() for p in params_of(ours)]
    for optimizer in (ours, theirs):
        optimizer.param_groups[0] |= change
    for state in theirs.state.values() if name != "SGD" else ():
        zeros = torch.zeros_like(next(v for v in state.values() if v is not state["step"]))
        state |= {n: zeros.clone() for n in ("momentum_buffer", "grad_avg", "max_exp_avg_sq")}
    for optimizer in (ours, theirs):
        set_gradients(params_of(optimizer), 2)
        optimizer.step()
    for p, peer, average in zip(params_of(ours), params_of(theirs), averages, strict=True):
        torch.testing.assert_close(p, peer, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.state[p]["ema"], 0.5 * average + 0.5 * p)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_moving_averages(name, dtype):
    ours, _ = pair(name, dtype, ours={"ema": 0.9})
    params = params_of(ours)
    expected = [p.detach().clone().double() for p in params]
    for step in range(4):
        set_gradients(params, step)
        ours.step()
        for average, p in zip(expected, params, strict=True):
            average.lerp_(p.double(), 0.1 if step else 1.0)
    for average, p in zip(expected, params, strict=True):
        own = ours.state[p]["ema"]
        assert own.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # Of parameters before they are rounded to bfloat16.
        error = 5e-3 if dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(own.double(), average, rtol=error, atol=error)


def test_parameters_hold_their_averages_for_a_while():
    ours, theirs = pair("Adam", ours={"ema": 0.9})
    step_both(ours, theirs, range(3))
    params = params_of(ours)
    values = [p.detach().clone() for p in params]

    def fail_inside() -> None:
        with ours.averaged_parameters():
            assert all(torch.equal(p, ours.state[p]["ema"]) for p in params)
            assert not torch.equal(params[0], values[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert all(torch.equal(p, v) for p, v in zip(params, values, strict=True))


def test_averages_that_begin_mid_training():
    ours, theirs = pair("Adam", ours={"ema": 0.5})
    step_both(ours, theirs, range(2))
    other = moved(theirs, optim.Adam, ema=0.5)
    averages = other.averaged_parameters()
    with pytest.raises(ValueError, match=r"`ema` must be given, and a step be made.*ema=0.5"):
        averages.__enter__()
    set_gradients(params_of(other), 2)
    other.step()
    assert all(torch.equal(other.state[p]["ema"], p) for p in params_of(other))


def test_steps_that_were_saved_as_numbers():
    ours, theirs = pair("Adam")
    step_both(ours, theirs, range(2))
    saved = theirs.state_dict()
    for state in saved["state"].values():
        state["step"] = int(state["step"])
    ours.load_state_dict(copy.deepcopy(saved))
    theirs.load_state_dict(copy.deepcopy(saved))
    step_both(ours, theirs, range(2, 4))
    assert_same(ours, theirs)
