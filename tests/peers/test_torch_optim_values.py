"""`fusednn.torch.optim` gives what `torch.optim` gives: all combinations of options, all dtypes."""

from __future__ import annotations

import pytest
import torch
import torch_steps
from torch_steps import NAMES, NEVER_FUSED, assert_same, pair, params_of, set_gradients, step_both

from fusednn.torch import optim


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=torch_steps.case_id)
@pytest.mark.parametrize(("name", "options"), list(torch_steps.cases()), ids=torch_steps.case_id)
def test_every_combination_of_options(name, options, dtype):
    ours, theirs = pair(name, dtype, foreach=False, **options)
    step_both(ours, theirs)
    assert_same(ours, theirs)


# PyTorch rounds after each operation, ours once; its fused SGD of short types is wrong on a CPU.
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=torch_steps.case_id)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
        ("Adagrad", {"lr_decay": 0.1}),
        ("RMSprop", {"alpha": 0.9, "momentum": 0.5, "eps": 0.1}),
        ("Adam", {"betas": (0.9, 0.9), "amsgrad": True}),
        ("AdamW", {"betas": (0.9, 0.9), "weight_decay": 0.1, "maximize": True}),
        ("Adamax", {"betas": (0.9, 0.9), "weight_decay": 0.1}),
    ],
)
def test_short_types(name, options, dtype):
    ours, theirs = pair(name, dtype, foreach=False, **options)
    step_both(ours, theirs)
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_200_steps(name):
    ours, theirs = pair(name, torch.float64, lr=0.01)
    step_both(ours, theirs, range(200))
    assert_same(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [{"foreach": True}, {"foreach": False}, {"fused": True}])
def test_the_choice_of_implementation_changes_no_bit(name, how):
    if name in NEVER_FUSED and "fused" in how:
        pytest.skip("has no such argument")
    ours, plain = (
        getattr(optim, name)(torch_steps.parameters(), lr=0.05, **options) for options in (how, {})
    )
    step_both(ours, plain)
    for own, peer in zip(params_of(ours), params_of(plain), strict=True):
        assert torch.equal(own, peer)


@pytest.mark.parametrize("name", NAMES)
def test_sixty_small_parameters_of_several_types(name):
    dtypes = (torch.float32, torch.float64)
    optimizers = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(i % 33, dtype=dtypes[i % 2])) for i in range(60)]
        optimizers.append(getattr(module, name)(params, lr=0.05))
    step_both(*optimizers)
    assert_same(*optimizers)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_short_and_long_types_in_one_group(name):
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
    optimizers = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(9).to(dtype)) for dtype in dtypes]
        optimizers.append(
            getattr(module, name)(params, lr=0.05, eps=0.1)
            if name != "SGD"
            else getattr(module, name)(params, lr=0.05)
        )
    for step in range(3):
        for optimizer in optimizers:
            set_gradients(params_of(optimizer), step)
            optimizer.step()
    for own, peer in zip(*map(params_of, optimizers), strict=True):
        rtol, atol = torch_steps.TOLERANCES[own.dtype]
        torch.testing.assert_close(own, peer, rtol=2 * rtol, atol=2 * atol)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_states_in_other_layouts(name):
    optimizers = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        nhwc = torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last)
        params = [torch.nn.Parameter(p) for p in (nhwc, torch.randn(6, 5).t(), torch.randn(3, 4))]
        optimizers.append(getattr(module, name)(params, lr=0.05))
    for step in range(3):
        for optimizer in optimizers:
            params = params_of(optimizer)
            set_gradients(params, step)  # in C order, whatever the parameter's
            params[2].grad = params[2].grad[:1].expand(3, 4) if step == 1 else params[2].grad
            optimizer.step()
        if step == 1:
            # As after a checkpoint of a model in another layout.
            for states in optimizers[0].state.values():
                for key, value in states.items():
                    states[key] = value.contiguous()
    for own, peer in zip(*map(params_of, optimizers), strict=True):
        torch.testing.assert_close(own, peer, rtol=1e-5, atol=1e-5)
        assert own.stride() == peer.stride()


def test_tensor_hyperparameters():
    for name in NAMES:
        tensors = {"lr": torch.tensor([0.05])}
        if "Adam" in name:
            tensors["betas"] = (torch.tensor(0.8), torch.tensor([0.9]))
        numbers = {"lr": 0.05, "betas": (0.8, 0.9)} if "Adam" in name else {"lr": 0.05}
        ours = getattr(optim, name)(torch_steps.parameters(), **tensors)
        plain = getattr(optim, name)(torch_steps.parameters(), **numbers)
        step_both(ours, plain)
        for own, peer in zip(params_of(ours), params_of(plain), strict=True):
            torch.testing.assert_close(own, peer, rtol=1e-6, atol=1e-6)
    ours, theirs = pair("SGD", weight_decay=torch.tensor(0.1))
    step_both(ours, theirs)
    assert_same(ours, theirs)


def test_default_dtype_of_steps():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        ours, theirs = pair("Adam", torch.float64)
        step_both(ours, theirs, range(2))
        assert_same(ours, theirs)
        assert ours.state[params_of(ours)[0]]["step"].dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
