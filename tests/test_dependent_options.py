"""Options and states of optimizer steps that need another option: used, refused, left alone."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import ops
from optimizer_lists import Lists


@pytest.fixture
def lists():
    made = Lists()
    for _ in range(3):
        made.step()
    return made


def test_states_that_only_some_steps_use(lists):
    maxima = [np.ones_like(v) for v in lists.v]
    how = {"amsgrad": True, "max_exp_avg_sqs": maxima}
    for amsgrad in (False, True, False, True):
        old = [a.copy() for a in maxima]
        lists.steps += 1
        ops.adam_step(*lists.lists, step=lists.steps, lr=0.1, **(how if amsgrad else {}))
        for a, v, o in zip(maxima, lists.v, old, strict=True):
            np.testing.assert_array_equal(a, np.maximum(o, v) if amsgrad else o)


def test_options_that_need_another_are_refused_of_known_lists(lists):
    """The lists' plan stays: what is refused is the step's numbers beside it."""
    how = {"step": 4, "lr": 0.1, "max_exp_avg_sqs": [np.ones_like(v) for v in lists.v]}
    ops.adam_step(*lists.lists, **how, amsgrad=True)
    before = [p.copy() for p in lists.params]
    with pytest.raises(ValueError, match="`max_exp_avg_sqs` must be None where `amsgrad` is off"):
        ops.adam_step(*lists.lists, **how, amsgrad=False)
    with pytest.raises(ValueError, match="`ema_momentum` must not be given where `ema` is None"):
        ops.adam_step(*lists.lists, **how, amsgrad=True, ema_momentum=0.9)
    for p, old in zip(lists.params, before, strict=True):
        np.testing.assert_array_equal(p, old)


def test_momentum_of_zero_leaves_the_buffers(lists):
    """A schedule may take it there, as in PyTorch, whose lists of buffers stay in the call, too."""
    kept = [m.copy() for m in lists.m]
    for momentum in (0.0, 0.5):
        ops.sgd_step(*lists.lists[:3], step=2, lr=0.1, momentum=momentum, dampening=0.25)
        for m, old in zip(lists.m, kept, strict=True):
            assert np.array_equal(m, old) == (momentum == 0.0 or not m.size)


def test_average_without_a_momentum_takes_a_hundredth(lists):
    """`ema_momentum=None` is 0.99."""
    ema = [np.zeros_like(p) for p in lists.params]
    ops.adam_step(*lists.lists, step=2, lr=0.1, ema=ema)
    for e, p in zip(ema, lists.params, strict=True):
        np.testing.assert_allclose(e, 0.01 * p, rtol=1e-5)
