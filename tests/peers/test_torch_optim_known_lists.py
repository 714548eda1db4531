"""Lists that a step has seen before go a short way through C; everything else goes the long way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch_steps import NAMES, pair, params_of, set_gradients, step_both

from fusednn import _core
from fusednn.torch import optim


def refuse_new_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("these lists should be known")

    monkeypatch.setattr(optim.optimizer.FusedStep, "_step_new_lists", fail)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("groups", [1, 40])
def test_lists_are_known_again(name, groups, monkeypatch):
    own = {"ema": 0.9, "max_norm": 1.0}
    momentum = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    params = [torch.nn.Parameter(torch.ones(i % 7)) for i in range(40)]
    split = [{"params": [p]} for p in params] if groups == 40 else params
    ours = getattr(optim, name)(split, lr=0.05, **own, **momentum)
    set_gradients(params, 0)
    ours.step()
    ours.step()  # a plan that knows that momentum has begun
    before = [p.detach().clone() for p in params]
    refuse_new_lists(monkeypatch)
    for _ in range(3):
        ours.step()
    ours.param_groups[0]["lr"] = 0.1
    ours.step()
    assert all(not torch.equal(p, b) for p, b in zip(params, before, strict=True) if p.numel())
    params[0].grad = torch.ones(0, dtype=torch.float64).float()
    params[3].grad = params[3].grad.clone()
    with pytest.raises(AssertionError, match="these lists should be known"):
        ours.step()


def test_what_is_never_known(monkeypatch):
    """Everything that would make a plan wrong sends the step the long way."""
    ours, _ = pair("Adam")
    params = params_of(ours)

    def expect_long_way() -> None:
        with monkeypatch.context() as m:
            refuse_new_lists(m)
            with pytest.raises(AssertionError, match="should be known"):
                ours.step()
        ours.step()
        with monkeypatch.context() as m:
            refuse_new_lists(m)
            ours.step()

    set_gradients(params, 0)
    expect_long_way()
    state = ours.state[params[0]]
    state["exp_avg"] = state["exp_avg"].clone()
    expect_long_way()
    state["exp_avg"].data = state["exp_avg"].clone()
    expect_long_way()
    params[1].data = params[1].detach().clone()
    expect_long_way()
    params[1].grad = None
    expect_long_way()
    del state["exp_avg_sq"]
    expect_long_way()
    ours.state = {p: dict(s) for p, s in reversed(ours.state.items())}
    with monkeypatch.context() as m:  # the same tensors in other dicts, in another order
        refuse_new_lists(m)
        ours.step()


def test_a_gradient_that_shows_its_negative():
    """The imaginary part of a conjugate is a view whose memory has the other sign."""
    results = []
    for module in (optim, torch.optim):
        param = torch.nn.Parameter(torch.ones(1))
        optimizer = module.SGD([param], lr=0.5)
        for _ in range(3):
            param.grad = torch.tensor([3 + 4j]).conj().imag
            optimizer.step()
        results.append(param.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("name", NAMES)
def test_without_the_exchange_api(name):
    """As PyTorch before 2.10."""
    before = _core.use_exchange_api(False)
    try:
        ours, theirs = pair(name, ours={"ema": 0.9})
        step_both(ours, theirs)
        for own, peer in zip(params_of(ours), params_of(theirs), strict=True):
            torch.testing.assert_close(own, peer, rtol=1e-5, atol=1e-5)
    finally:
        _core.use_exchange_api(before)


def test_threads_step_optimizers_of_their_own():
    def work(seed: int) -> list[torch.Tensor]:
        params = [torch.nn.Parameter(torch.full((i,), float(seed))) for i in range(20)]
        optimizer = optim.Adam(params, lr=0.1)
        for step in range(50):
            set_gradients(params, step)
            optimizer.step()
        return [p.detach() for p in params]

    expected = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for got, want in zip(results, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
