"""The settings of calls on GPUs, where there is none: what is refused, what does nothing."""

from __future__ import annotations

import pytest

import fusednn
from fusednn import _core


def chosen():
    return _core.cuda_settings_variable().get()


@pytest.mark.parametrize("value", [-1, 1 << 31])
def test_counts_out_of_range(value):
    message = rf"`spare_multiprocessors` must be from 0 to 2147483647. Received: .*={value}"
    with pytest.raises(ValueError, match=message):
        fusednn.cuda_settings(spare_multiprocessors=value)


@pytest.mark.parametrize("value", [1.5, "2"])
def test_counts_that_are_no_integers(value):
    message = rf"`spare_multiprocessors` must be an integer. Received: .*={value!r} of type"
    with pytest.raises(TypeError, match=message):
        fusednn.cuda_settings(spare_multiprocessors=value)


class OnlyAllocates:
    def allocate(self, bytes, device, stream):
        return 0


@pytest.mark.parametrize(
    ("value", "error"), [("torch", ValueError), (OnlyAllocates(), TypeError), (3, TypeError)]
)
def test_workspaces_that_lend_nothing(value, error):
    message = "`workspace` must be 'library', 'package', or an object with .* Received: workspace="
    with pytest.raises(error, match=message):
        fusednn.cuda_settings(workspace=value)


def test_a_call_that_is_refused_changes_nothing():
    with fusednn.cuda_settings(spare_multiprocessors=2):
        before = chosen()
        with pytest.raises(ValueError, match="`workspace`"):
            fusednn.cuda_settings(spare_multiprocessors=3, workspace="no")
        assert chosen() == before
    assert chosen() is None


def test_without_with_they_stay():
    setting = fusednn.cuda_settings(spare_multiprocessors=2, workspace="package")
    assert chosen()[0] == 2
    with setting:
        pass
    assert chosen() is None


def test_nothing_to_release():
    """Where nothing was computed on a GPU; the simulator's tests release something."""
    assert isinstance(fusednn.release_cuda_memory(), int)
