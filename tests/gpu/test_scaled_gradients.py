"""What a gradient scaler needs: scale and `found_inf` are the device's, and nothing waits for them.

Each step is captured into a graph, in which CUDA lets nobody wait: all is decided on the device.
"""

from __future__ import annotations

import numpy as np
import pytest
from devices import array
from test_optimizers import NORMS, Lists

pytestmark = pytest.mark.short
OPTIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"skip_nonfinite": True}, id="skip_nonfinite"),
    pytest.param({"max_norm": 1.0}, id="max_norm"),
    pytest.param({"max_norm_each": 0.5}, id="max_norm_each"),
]


@pytest.fixture
def device(device):
    if device.host:
        pytest.skip("arrays on the CPU cannot hold a step's numbers")
    return device


def number(device, value):
    return array(device, np.array([value], np.float32))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "adam"])
def test_found_inf_and_unscale(device, rng, kind, options):
    lists = Lists(device, rng, kind, options)
    step, scale, found = (number(device, value) for value in (0, 4, 0))

    def work():
        lists.step(lists.gpu, step, grad_scale=scale, found_inf=found)

    replay = device.graph(work)
    lists.step(lists.cpu, 1, grad_scale=4.0)
    done = 1
    for scale_now, found_now in ((4, 1), (2, 0), (1024, 1), (1024, 0)):
        device.set(scale, np.array([scale_now], np.float32))
        device.set(found, np.array([found_now], np.float32))
        lists.set_grads(rng)
        replay()
        if not found_now:
            done += 1
            lists.step(lists.cpu, done, grad_scale=float(scale_now))
        assert device.get(step) == done
        # Of a norm the last bit may differ.
        lists.assert_same(rtol=1e-5 if NORMS & options.keys() else 0.0)


def test_gradients_that_are_not_finite_are_found_on_the_device(device, rng):
    lists = Lists(device, rng, "adam", {"skip_nonfinite": True})
    step = number(device, 0)
    replay = device.graph(lambda: lists.step(lists.gpu, step))
    lists.step(lists.cpu, 1)
    for t, bad in ((2, np.nan), (2, -np.inf), (2, None), (3, np.inf), (3, None)):
        lists.set_grads(rng)
        if bad is not None:
            spoilt = lists.cpu["grads"][4].copy()
            spoilt[1029] = bad
            device.set(lists.gpu["grads"][4], spoilt)
        replay()
        if bad is None:
            lists.step(lists.cpu, t)
        else:
            lists.cpu["grads"][4][...] = spoilt
        assert device.get(step) == (t if bad is None else t - 1)
        lists.assert_same()
