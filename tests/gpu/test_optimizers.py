"""Optimizer steps on a GPU: the bits of the CPU, where no sum over elements is part of the step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import array, require_dtype

import reference as ref
from fusednn import ops
from optimizer_formulas import step_number

SIZES = (300, 0, 1, 7, 1030, 97)
#: In one element of each element-wise step nothing is rounded twice; of a norm the last bit may
#: differ, and the factor with it.
NORMS = {"max_norm", "max_norm_each"}


class Lists:
    """An optimizer's arrays on the CPU, and the same on the device.

    `kept` is the dtype of the states, float32 unless the parameters are float64; `copies` that of
    low-precision copies, if there are to be any.
    """

    def __init__(
        self,
        device,
        rng,
        kind,
        options,
        sizes=SIZES,
        dtype=np.float32,
        offset=0,
        kept=None,
        copies=None,
    ):
        for needed in (dtype, kept, copies):
            if needed is not None:
                require_dtype(device, needed)
        self.device, self.kind, self.options = device, kind, options
        params = [rng.normal(size=n) for n in sizes]
        states = ref.initial_states(kind, params, options)
        kept = kept or np.dtype(np.float64 if dtype == np.float64 else np.float32)
        own = {name: [a.astype(kept) for a in arrays] for name, arrays in states.items()}
        self.cpu = {
            "params": [p.astype(dtype) for p in params],
            "grads": [rng.normal(size=n).astype(dtype) for n in sizes],
            **own,
        }
        if copies is not None:
            self.cpu["low_precision_copies"] = [np.full(n, np.nan, copies) for n in sizes]
        self.gpu = {
            name: [array(device, a, offset) for a in arrays] for name, arrays in self.cpu.items()
        }

    def set_grads(self, rng):
        for ours, theirs in zip(self.gpu["grads"], self.cpu["grads"], strict=True):
            theirs[...] = rng.normal(size=theirs.shape)
            self.device.set(ours, theirs)

    def step(self, arrays: dict[str, list], t: Any, convention="torch", **how):
        states = {n: a for n, a in arrays.items() if n not in ("params", "grads")}
        ref.call_step(
            ops,
            self.kind,
            arrays["params"],
            arrays["grads"],
            states,
            **{"step": t, "convention": convention, "lr": 0.1, **self.options, **how},
        )

    def step_both(self, t, convention="torch"):
        for arrays in (self.gpu, self.cpu):
            self.step(arrays, step_number(convention, t), convention)

    def assert_same(self, rtol=0.0):
        for name, arrays in self.gpu.items():
            for ours, theirs in zip(arrays, self.cpu[name], strict=True):
                got = self.device.get(ours)
                if rtol:
                    wide = got.astype(np.float64), theirs.astype(np.float64)
                    np.testing.assert_allclose(*wide, rtol, 1e-30, err_msg=name)
                else:
                    ref.assert_same_numbers(got, theirs)


@pytest.mark.short
@pytest.mark.parametrize(
    ("kind", "convention", "options"), list(ref.optimizer_cases()), ids=ref.case_id
)
def test_every_option(device, rng, kind, convention, options):
    lists = Lists(device, rng, kind, options)
    for t in (1, 2, 3):
        lists.set_grads(rng)
        lists.step_both(t, convention)
    lists.assert_same(rtol=1e-5 if NORMS & options.keys() else 0.0)


@pytest.mark.short
@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("kind", ref.OPTIMIZERS)
def test_dtypes_and_misaligned_views(device, rng, kind, dtype, offset):
    lists = Lists(device, rng, kind, {"ema_momentum": 0.9}, dtype=dtype, offset=offset)
    for t in (1, 2):
        lists.set_grads(rng)
        lists.step_both(t)
    lists.assert_same()


LISTS = {
    "one large tensor": (10_000_001,),
    "many small tensors": tuple(range(500)),
    "a network": (7 * 7 * 3 * 64, 64, 64, *(3 * 3 * 256 * 256, 256) * 4, 2048 * 1000, 1000),
}


@pytest.mark.parametrize("sizes", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_long_lists(device, rng, kind, sizes):
    lists = Lists(device, rng, kind, {"weight_decay": 0.01}, sizes)
    for t in (1, 2):
        lists.step_both(t)
    lists.assert_same()


@pytest.mark.short
def test_nonfinite_gradients_leave_everything(device, rng):
    lists = Lists(device, rng, "adam", {"skip_nonfinite": True})
    before = {name: [a.copy() for a in arrays] for name, arrays in lists.cpu.items()}
    spoilt = lists.cpu["grads"][4].copy()
    spoilt[1001] = np.inf
    lists.device.set(lists.gpu["grads"][4], spoilt)
    lists.step(lists.gpu, 1)
    lists.cpu = before | {"grads": [*before["grads"][:4], spoilt, before["grads"][5]]}
    lists.assert_same()


@pytest.mark.short
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_global_norm(device, rng, dtype):
    require_dtype(device, dtype)
    arrays = [rng.normal(size=n).astype(dtype) for n in (40_000, 0, 1, 16_385, 777)]
    norm = ops.global_norm([array(device, a) for a in arrays])
    np.testing.assert_allclose(norm, ref.global_norm(arrays), 1e-12)
