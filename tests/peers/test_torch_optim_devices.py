"""Parameters on several GPUs. There is none here: fake tensors have devices, and no memory.

What the kernel is given must lie beside its parameters, wherever PyTorch's GradScaler has put it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fusednn.torch import optim
from fusednn.torch.optim.new_lists import NewLists
from fusednn.torch.optim.step_list import StepList

FIRST, SECOND = "cuda:0", "cuda:1"
HOW = {"hyperparameters": {}, "weight_decay": 0.0}


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    with FakeTensorMode():
        yield


def list_on(device: str) -> StepList:
    param = torch.zeros(3, device=device)
    param.grad = torch.zeros(3, device=device)
    return StepList([param], [param], [param.grad], steps=[torch.zeros((), device=device)])


def number_on(device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros((), dtype=dtype, device=device)


@pytest.mark.parametrize("loss", [FIRST, SECOND])
@pytest.mark.parametrize("params", [FIRST, SECOND])
def test_what_a_scaler_found_is_beside_the_parameters(params, loss):
    how = HOW | {"grad_scale": number_on(loss), "found_inf": number_on(loss)}
    call = list_on(params).call("adam", how | {"hyperparameters": {"lr": number_on(loss)}}, None)
    for number in (call["grad_scale"], call["found_inf"], call["hyperparameters"]["lr"]):
        assert str(number.device) == params
        assert number.dtype == torch.float32


def test_numbers_that_are_there_are_not_copied():
    """A graph that was captured reads them where they are."""
    scale, found = number_on(FIRST), number_on(FIRST)
    how = HOW | {"grad_scale": scale.detach(), "found_inf": found.detach()}
    call = list_on(FIRST).call("adam", how, None)
    for ours, given in ((call["grad_scale"], scale), (call["found_inf"], found)):
        assert ours.untyped_storage()._cdata == given.untyped_storage()._cdata


def test_without_a_scaler_there_is_nothing_to_find():
    call = list_on(FIRST).call("adam", HOW | {"grad_scale": None}, None)
    assert call["grad_scale"] is None
    assert "found_inf" not in call


@pytest.mark.parametrize("loss", [FIRST, SECOND])
def test_a_norm_over_devices_is_divided_by_a_scale_of_any(loss):
    lists = [list_on(device) for device in (SECOND, FIRST)]
    optimizer = optim.Adam([one.owners[0] for one in lists], max_norm=1.0)
    new = NewLists(optimizer)
    new.all = [(one, HOW) for one in lists]
    clip = new._clip(number_on(loss))
    assert clip["grad_scale"].is_cuda
    for one in lists:
        call = one.call("adam", HOW | clip, None)
        assert call["grad_scale"].device == one.params[0].device
