"""Counts of steps that lie on a GPU and are shared. There is none here: CPU tensors stand for them.

The kernel's part, to read and advance one count for a list, is `ops.optimizer_step`'s on a GPU
(tests/cuda_sim); a function with its contract takes its place.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch_steps import NEVER_FUSED, assert_same, pair, params_of, set_gradients

from fusednn import ops
from fusednn.torch import optim
from fusednn.torch.optim import counts, new_lists, step_list

COUNTING = ("Adagrad", "RMSprop", "Adam", "AdamW", "Adamax")


@pytest.fixture
def calls(monkeypatch):
    """The numbers of parameters of each call; all counts are as if on a GPU."""
    lengths = []
    step = ops.optimizer_step

    def on_gpu(*, step: torch.Tensor, check_only: bool = False, **call):
        assert isinstance(step, torch.Tensor)
        if not check_only:
            lengths.append(len(call["params"]))
            step += 1  # before it is used
        return on_gpu.step(step=max(int(step), 1), check_only=check_only, **call)

    on_gpu.step = step
    monkeypatch.setattr(ops, "optimizer_step", on_gpu)
    for module in (counts, new_lists, step_list):
        monkeypatch.setattr(module, "is_on_device", lambda _: True)
    monkeypatch.setattr(optim.optimizer.FusedStep, "_step_known_lists", lambda *_: None)
    return lengths


@pytest.mark.parametrize("name", COUNTING)
def test_all_parameters_share_a_count(name, calls):
    where = {"capturable": False} if name in NEVER_FUSED else {"fused": True}
    ours, theirs = pair(name, **where)
    for step in range(4):
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step)
            optimizer.step()
    assert_same(ours, theirs)
    # Adagrad's states are PyTorch's, made with the optimizer.
    assert calls == ([1] * 20 if name == "Adagrad" else [5] * 4)


def test_parameters_that_miss_steps_count_for_themselves(calls):
    ours, theirs = pair("Adam")
    for step, without in enumerate((None, 2, 2, None, 0, None, 1)):
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step, without)
            optimizer.step()
        assert_same(ours, theirs)
    assert calls[:4] == [5, 4, 4, 4]
    assert [ours.state[p]["step"].item() for p in params_of(ours)] == [6, 6, 5, 7, 7]


def test_lists_of_two_kinds_do_not_count_twice(calls):
    optimizers = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        params = [
            torch.nn.Parameter(torch.randn(3, dtype=d)) for d in 2 * (torch.float32, torch.float64)
        ]
        optimizers.append(module.Adam(params, lr=0.1))
    one = torch.zeros(())
    for step in range(3):
        for optimizer in optimizers:
            set_gradients(params_of(optimizer), step)
            optimizer.step()
        if step == 0:  # as if they had come to share
            one = optimizers[0].state[params_of(optimizers[0])[0]]["step"]
            for state in optimizers[0].state.values():
                state["step"] = one
    assert_same(*optimizers)


def test_what_is_saved_counts_apart_and_what_is_loaded_together(calls):
    ours, theirs = pair("Adam")
    for step, without in enumerate((None, 2)):
        for optimizer in (ours, theirs):
            set_gradients(params_of(optimizer), step, without)
            optimizer.step()
    saved = ours.state_dict()
    places = [state["step"].data_ptr() for state in saved["state"].values()]
    assert len(set(places)) == 5
    assert len({s["step"].data_ptr() for s in ours.state.values()}) == 2
    other = optim.Adam(params_of(ours), lr=0.05)
    other.load_state_dict(theirs.state_dict())
    assert len({s["step"].data_ptr() for s in other.state.values()}) == 2
    assert [s["step"].item() for s in other.state.values()] == [2, 2, 1, 2, 2]
    copied = copy.deepcopy(ours)
    assert len({s["step"].data_ptr() for s in copied.state.values()}) == 2
    assert {s["step"].data_ptr() for s in copied.state.values()}.isdisjoint(places)


@pytest.mark.parametrize("name", [*COUNTING, "SGD"])
def test_a_step_that_python_counts_is_not_captured(name, monkeypatch):
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    ours, _ = pair(name, **momentum)
    set_gradients(params_of(ours), 0)
    states = {p: dict(s) for p, s in ours.state.items()}
    monkeypatch.setattr(optim.optimizer.FusedStep, "_step_known_lists", lambda *_: None)
    with monkeypatch.context() as m:
        m.setattr(new_lists, "is_capturing", lambda _: True)
        with pytest.raises(RuntimeError, match=r"`capturable` or `fused` must be True, and a step"):
            ours.step()
    assert ours.state == states
    ours.step()
    if name == "SGD":  # which counts nothing but its first step
        monkeypatch.setattr(new_lists, "is_capturing", lambda _: True)
        ours.step()


@pytest.mark.parametrize("name", COUNTING)
def test_capturable_on_the_cpu_is_refused_as_by_torch(name):
    if name == "Adagrad":
        pytest.skip("has no such option")
    for package, error in ((torch.optim, AssertionError), (optim, RuntimeError)):
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.grad = torch.ones(3)
        optimizer = getattr(package, name)([parameter], lr=0.1, capturable=True)
        with pytest.raises(error, match="capturable"):
            optimizer.step()
        assert torch.equal(parameter.data, torch.ones(3))
    assert not optimizer.state[parameter]
