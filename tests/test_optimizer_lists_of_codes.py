"""Lists of 8-bit states that the library remembers as checked: what changed is always noticed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fusednn import ops
from optimizer_lists import SHAPES


class CodedLists:
    """Arrays and 8-bit states of an Adam step, stepped beside copies that were never seen."""

    def __init__(self):
        rng = np.random.default_rng(5)
        self.params, self.grads = (
            [rng.uniform(0.5, 1.5, shape).astype(np.float32) for shape in (*SHAPES, (300,))]
            for _ in range(2)
        )
        self.m = [ops.quantized_state(p) for p in self.params]
        self.v = [ops.quantized_state(p, signed=False) for p in self.params]
        self.steps = 0

    def copies(self):
        arrays = [[a.copy("K") for a in some] for some in (self.params, self.grads)]
        states = [
            [ops.QuantizedState(s.codes.copy("K"), s.scales.copy(), signed=s.signed) for s in some]
            for some in (self.m, self.v)
        ]
        return (*arrays, *states)

    def step(self):
        copies = self.copies()
        self.steps += 1
        ops.adam_step(*copies, step=self.steps, lr=0.1)
        ops.adam_step(self.params, self.grads, self.m, self.v, step=self.steps, lr=0.1)
        self.assert_same(copies)

    def assert_same(self, copies):
        for ours, theirs in zip((self.params, self.grads), copies[:2], strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)
        assert (self.m, self.v) == copies[2:]

    def fails(self, error, match):
        copies = self.copies()
        with pytest.raises(error, match=match):
            ops.adam_step(self.params, self.grads, self.m, self.v, step=self.steps + 1, lr=0.1)
        self.assert_same(copies)


@pytest.fixture
def lists():
    made = CodedLists()
    for _ in range(3):
        made.step()
    return made


def test_many_steps(lists):
    for _ in range(20):
        lists.step()


def test_other_codes_and_scales_in_the_same_state(lists):
    state = lists.m[0]
    for name in ("codes", "scales"):
        old = getattr(state, name)
        setattr(state, name, old.copy())
        lists.step()
        new = getattr(state, name)
        assert new is not old
        if name == "codes":
            assert (new != old).any()


def test_other_states_of_the_same_arrays(lists):
    lists.m[:] = [ops.QuantizedState(s.codes, s.scales, signed=True) for s in lists.m]
    lists.step()


def test_the_kind_of_code_is_noticed(lists):
    lists.m[1].signed = False
    lists.fails(TypeError, r"`exp_avgs\[1\]` must be a quantized state with signed=True")
    lists.m[1].signed = True
    lists.step()


@pytest.mark.parametrize("name", ["codes", "scales"])
def test_read_only_parts_are_noticed(lists, name):
    getattr(lists.v[3], name).flags.writeable = False
    lists.fails(ValueError, r"`exp_avg_sqs\[3\](\.scales)?` must be writable")


def test_another_shape_is_noticed(lists):
    lists.v[0].codes = lists.v[0].codes.reshape(4, 3)
    lists.fails(ValueError, r"`exp_avg_sqs\[0\]` must have the shape")


@pytest.mark.parametrize(("name", "dtype"), [("codes", np.int8), ("scales", np.int32)])
def test_another_dtype_is_noticed(lists, name, dtype):
    setattr(lists.v[0], name, getattr(lists.v[0], name).view(dtype))
    with pytest.raises(TypeError, match=rf"`exp_avg_sqs\[0\]\.{name}` must be"):
        ops.adam_step(lists.params, lists.grads, lists.m, lists.v, step=4, lr=0.1)


def test_parts_that_come_to_overlap_are_noticed(lists):
    lists.m[0].codes = lists.v[0].codes
    lists.fails(ValueError, "overlap")


def test_parts_that_are_gone_are_noticed(lists):
    del lists.m[2].scales
    with pytest.raises(AttributeError, match="scales"):
        ops.adam_step(lists.params, lists.grads, lists.m, lists.v, step=4, lr=0.1)


def test_arrays_and_states_take_turns(lists):
    coded, arrays = lists.m, [s.dequantize() for s in lists.m]
    for states in (arrays, coded, arrays, coded):
        copies = lists.copies()
        copy = [s.copy() for s in states] if states is arrays else copies[2]
        ops.adam_step(*copies[:2], copy, copies[3], step=7, lr=0.1)
        ops.adam_step(lists.params, lists.grads, states, lists.v, step=7, lr=0.1)
        for ours, theirs in zip(lists.params, copies[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert lists.v == copies[3]


def test_a_subclass_may_compute_its_parts(lists):
    class Shifted(ops.QuantizedState):
        __slots__ = ("parts",)

        @property
        def codes(self):
            return self.parts[-1]

        @codes.setter
        def codes(self, value):
            self.parts = [value]

    state = lists.m[0]
    lists.m[0] = Shifted(state.codes, state.scales, signed=True)
    lists.step()
    lists.m[0].parts.append(state.codes.copy())
    lists.step()
    assert (state.codes != lists.m[0].codes).any()


def test_nothing_is_kept_alive():
    lists = CodedLists()

    def counts():
        parts = [part for s in (*lists.m, *lists.v) for part in (s, s.codes, s.scales)]
        return [sys.getrefcount(part) for part in parts]

    before = counts()
    for _ in range(3):
        lists.step()
    assert counts() == before
