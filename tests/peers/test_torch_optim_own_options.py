"""`max_norm` and `ema` are saved and shown; no step is lost while parameters hold averages."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch_steps import NAMES

from fusednn.torch import optim


def optimizer_of(name, **options):
    params = [torch.nn.Parameter(torch.arange(4.0) + i) for i in range(2)]
    for p in params:
        p.grad = torch.ones_like(p)
    return getattr(optim, name)(params, lr=0.1, **options)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_saved_and_loaded(name):
    first = optimizer_of(name, max_norm=0.5, ema=0.9)
    first.step()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed = optimizer_of(name)
    resumed.param_groups[0]["params"][0].data.copy_(first.param_groups[0]["params"][0])
    resumed.param_groups[0]["params"][1].data.copy_(first.param_groups[0]["params"][1])
    resumed.load_state_dict(torch.load(file))
    assert (resumed.max_norm, resumed.ema) == (0.5, 0.9)
    for _ in range(2):
        first.step()
        resumed.step()
    for a, b in zip(*(o.param_groups[0]["params"] for o in (first, resumed)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(first.state[a]["ema"], resumed.state[b]["ema"])
    # PyTorch's class takes the same file, and its states leave our options alone.
    peer = getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(4)) for _ in range(2)])
    peer.load_state_dict(copy.deepcopy(first.state_dict()))
    other = optimizer_of(name, max_norm=2.0)
    other.load_state_dict(peer.state_dict())
    assert other.max_norm == 2.0


def test_they_are_shown_where_they_are_given():
    assert repr(optimizer_of("SGD", max_norm=0.5, ema=0.9)).endswith("max_norm: 0.5\nema: 0.9\n)")
    assert "max_norm" not in repr(optimizer_of("SGD"))
    assert optimizer_of("SGD").state_dict().keys() == {"state", "param_groups"}


def test_no_step_is_lost_among_averages():
    optimizer = optimizer_of("SGD", ema=0.5)
    optimizer.step()
    optimizer.step()
    called = []
    before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
    with optimizer.averaged_parameters():
        with pytest.raises(RuntimeError, match="`step` must not be called inside of averaged_par"):
            optimizer.step(lambda: called.append(1))
        with (
            pytest.raises(RuntimeError, match="`averaged_parameters` must not be entered inside"),
            optimizer.averaged_parameters(),
        ):
            pass
    assert not called
    assert all(map(torch.equal, optimizer.param_groups[0]["params"], before))
    optimizer.step()
    with pytest.raises(KeyError, match="inside"), optimizer.averaged_parameters():
        raise KeyError("inside")
    optimizer.step()
