"""Plain parameters with states go a short way through C; everything else goes the long way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch_steps import (
    NAMES,
    assert_same,
    case_id,
    pair,
    params_of,
    set_gradients,
    step_both,
)

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
    set_gradients(params, 1)
    ours.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@pytest.mark.parametrize("name", NAMES)
def test_new_gradients_go_the_short_way(name, dtype, monkeypatch):
    """As `zero_grad` leaves them: a new tensor in each step, and some parameters without one."""
    momentum = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    ours, theirs = pair(name, dtype, **momentum)
    set_gradients(params_of(ours), 0)
    set_gradients(params_of(theirs), 0)
    ours.step()
    theirs.step()
    refuse_new_lists(monkeypatch)
    step_both(ours, theirs, range(1, 7))
    assert_same(ours, theirs)


def test_what_was_replaced_is_found(monkeypatch):
    """Parameters, gradients and states elsewhere are checked and stepped without Python's lists."""
    ours, theirs = pair("Adam")
    step_both(ours, theirs, range(2))
    refuse_new_lists(monkeypatch)
    for step in range(2, 8):
        for optimizer in (ours, theirs):
            params = params_of(optimizer)
            set_gradients(params, step)
            state = optimizer.state[params[0]]
            if step == 2:
                state["exp_avg"] = state["exp_avg"].clone()
            elif step == 3:
                state["exp_avg"].data = state["exp_avg"].clone()
            elif step == 4:
                params[1].data = params[1].detach().clone()
            elif step == 5:
                params[1].grad = None
            elif step == 6:
                params[1].grad = params[1].grad.to(params[1].dtype, copy=True)
            else:
                optimizer.state = {p: dict(s) for p, s in reversed(optimizer.state.items())}
            optimizer.step()
    assert_same(ours, theirs)


def test_what_goes_the_long_way(monkeypatch):
    ours, theirs = pair("Adam")

    def expect_long_way() -> None:
        with monkeypatch.context() as m:
            refuse_new_lists(m)
            with pytest.raises(AssertionError, match="should be known"):
                ours.step()
        ours.step()
        theirs.step()
        assert_same(ours, theirs)

    def gradients(step: int) -> None:
        set_gradients(params_of(ours), step)
        set_gradients(params_of(theirs), step)

    gradients(0)
    expect_long_way()
    for optimizer in (ours, theirs):
        optimizer.state[params_of(optimizer)[0]].clear()
    expect_long_way()
    gradients(1)
    for optimizer in (ours, theirs):  # its elements in another order of memory
        grad = params_of(optimizer)[1].grad
        params_of(optimizer)[1].grad = grad.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    expect_long_way()


def test_gradients_that_do_not_fit():
    """As strictly as at first; nothing is changed."""
    ours, _ = pair("Adam")
    params = params_of(ours)
    for step in range(2):
        set_gradients(params, step)
        ours.step()

    def fails(error: type[Exception], match: str) -> None:
        before = [p.detach().clone() for p in params]
        counts = [ours.state[p]["step"].item() for p in params]
        with pytest.raises(error, match=match):
            ours.step()
        assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
        assert [ours.state[p]["step"].item() for p in params] == counts
        set_gradients(params, 2)
        ours.step()

    params[0].grad = params[0].detach()
    fails(ValueError, r"must not overlap `grads\[0\]`.*28 bytes in common")
    params[2].grad = ours.state[params[1]]["exp_avg"].view(-1)[:97]
    fails(ValueError, r"`exp_avgs\[1\]` must not overlap `grads\[2\]`.*388 bytes")
    params[2].grad = params[2].grad.to_sparse()
    fails(RuntimeError, r"params'\]\[2\].grad` must be dense")
    kept = params[1].data
    params[1].grad.data = torch.ones(2, 5, 7)
    fails(
        ValueError, r"`grads\[1\]` must have the shape of `params\[1\]`, \(3, 5, 7\).*\(2, 5, 7\)"
    )
    params[1].grad.data = torch.ones(3, 5, 7, dtype=torch.float64)
    fails(
        TypeError, r"`grads\[1\]` must be float32, float16 or bfloat16 where `params\[1\]`.*float64"
    )
    assert params[1].data.data_ptr() == kept.data_ptr()


def test_options_that_come_to_be_wrong():
    """What is refused is refused of lists that are known too, with PyTorch's name."""
    ours, _ = pair("RMSprop")
    group = ours.param_groups[0]
    for option, value, error in (
        ("alpha", 1.5, ValueError),
        ("capturable", True, RuntimeError),
        ("differentiable", True, NotImplementedError),
        ("ema", 0.0, ValueError),
    ):
        set_gradients(params_of(ours), 0)
        ours.step()
        before = dict(group)
        group[option] = value
        with pytest.raises(error, match=f"`{option}` must be"):
            ours.step()
        ours.param_groups[0] = group = before


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


@pytest.mark.usefixtures("hidden_exchange_api")
class TestWithoutTheExchangeApi:
    """As PyTorch before 2.10: tensors are read by their attributes."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
    @pytest.mark.parametrize("name", NAMES)
    def test_values(self, name, dtype, monkeypatch):
        ours, theirs = pair(name, dtype, ours={"ema": 0.9})
        step_both(ours, theirs, range(2))
        refuse_new_lists(monkeypatch)
        step_both(ours, theirs, range(2, 8))
        for own, peer in zip(params_of(ours), params_of(theirs), strict=True):
            torch.testing.assert_close(own, peer, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=case_id)
    def test_short_types_are_read_as_with_it(self, dtype):
        results = []
        for use in (False, True):
            _core.use_exchange_api(use)
            ours, _ = pair("Adam", dtype)
            for step in range(4):
                set_gradients(params_of(ours), step)
                ours.step()
            results.append([p.detach() for p in params_of(ours)])
        assert all(torch.equal(*both) for both in zip(*results, strict=True))

    def test_what_is_unusual(self):
        test_a_gradient_that_shows_its_negative()
        test_gradients_that_do_not_fit()


@pytest.fixture
def hidden_exchange_api():
    before = _core.use_exchange_api(False)
    yield
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
