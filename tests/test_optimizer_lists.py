"""Lists that the library remembers as checked: what changed since is always noticed."""

from __future__ import annotations

import sys
import warnings

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


def test_many_steps(lists):
    for _ in range(20):
        lists.step()


def test_values_are_read_anew(lists):
    for grad in lists.grads:
        grad *= -3
    lists.step()
    lists.params[0][...] = 100
    lists.step()


def test_new_gradients_in_the_same_list(lists):
    for _ in range(30):
        lists.grads[:] = [
            np.random.default_rng(1).normal(size=g.shape).astype(g.dtype) for g in lists.grads
        ]
        lists.step()


def new_gradients(lists):
    """Other arrays with other numbers, as a backward pass makes them."""
    rng = np.random.default_rng(5)
    lists.grads = [rng.normal(size=p.shape).astype(p.dtype) for p in lists.params]


def test_new_gradients_are_checked(lists):
    """As strictly as those that were there when the rest was new."""
    for wrong, error, match in (
        (
            np.ones(4, np.float32),
            ValueError,
            r"`grads\[1\]` must have the shape of.*\(5,\).*\(4,\)",
        ),
        (np.ones((5, 1), np.float32), ValueError, r"`grads\[1\]` must have the shape.*\(5, 1\)"),
        (np.ones(5), TypeError, r"`grads\[1\]` must be float32, float16 or bfloat16"),
        (np.ones(5, np.int32), TypeError, r"`grads\[1\]` must be float32.*int32"),
        (np.ones(5, ">f4"), TypeError, r"`grads\[1\]` must be float32.*>f4"),
        (lists.params[1], ValueError, r"`params\[1\]` must not overlap `grads\[1\]`.*20 bytes"),
        (
            lists.v[3].reshape(-1)[-5:],
            ValueError,
            r"`exp_avg_sqs\[3\]` must not overlap `grads\[1\]`",
        ),
    ):
        new_gradients(lists)
        lists.grads[1] = wrong
        lists.fails(error, match)
        new_gradients(lists)
        lists.step()
    new_gradients(lists)
    lists.grads.append(np.ones(5, np.float32))
    lists.fails(ValueError, r"`grads` must hold one array per parameter, 5. Received: 6")


def test_new_gradients_of_any_kind(lists):
    """Read-only, of another dtype, of another order of memory, with gaps, one array twice."""
    for arrays in (lists.params, lists.m, lists.v):
        arrays[3] = np.asfortranarray(arrays[3])
    memory = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    for change in range(8):
        new_gradients(lists)
        if change % 2:
            lists.grads[0].flags.writeable = False
            lists.grads[1] = lists.grads[1].astype(np.float16)
            lists.grads[3] = np.asfortranarray(lists.grads[3])
        if change % 3 == 2:
            lists.grads[0] = memory[:12:3].T
            lists.grads[1] = memory[:5, 1]
        if change == 5:
            lists.grads[4] = lists.grads[1][:1].astype(np.float32)
            lists.grads[1] = np.broadcast_to(np.float32(2), 5)
        lists.step()


def test_gradients_exchanged_among_lists():
    """Plans that differ in nothing but the gradients' order."""
    lists = Lists([(6,)] * 4)
    for _ in range(6):
        lists.grads.append(lists.grads.pop(0))
        lists.step()


def test_new_lists_of_the_same_arrays(lists):
    lists.params, lists.grads = list(lists.params), tuple(lists.grads)
    lists.step()


def test_other_order(lists):
    for arrays in lists.lists:
        arrays.reverse()
    lists.step()


def test_shorter_and_longer_lists(lists):
    last = [arrays.pop() for arrays in lists.lists]
    lists.step()
    for arrays, array in zip(lists.lists, last, strict=True):
        arrays.append(array)
    lists.step()
    lists.grads.pop()
    lists.fails(ValueError, r"`grads` must hold one array per parameter, 5. Received: 4")


def test_an_array_that_moves_to_the_list_before(lists):
    lists.params.append(lists.grads.pop(0))
    lists.fails(ValueError, r"`grads` must hold one array per parameter, 6. Received: 4")


def test_another_dtype(lists):
    lists.m[1] = lists.m[1].astype(np.float64)
    lists.fails(TypeError, r"`exp_avgs\[1\]` must be float32, bfloat16 or float16")
    lists.m[1] = np.ones(5, np.float32)
    lists.step()
    lists.grads[0] = lists.grads[0].astype(np.float16)
    lists.step()
    lists.grads[0] = lists.grads[0].astype(np.float64)
    lists.fails(TypeError, r"`grads\[0\]` must be float32, float16 or bfloat16")


def test_dtype_set_in_place(lists):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lists.grads[0].dtype = np.int32
    lists.fails(TypeError, r"`grads\[0\]` must be float32.*int32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lists.grads[0].dtype = np.dtype(">f4")
    lists.fails(TypeError, r"`grads\[0\]` must be float32.*>f4")


def test_another_shape(lists):
    lists.v[0] = np.ones((4, 3), np.float32)
    lists.fails(ValueError, r"`exp_avg_sqs\[0\]` must have the shape.*\(3, 4\).*\(4, 3\)")


def test_shape_set_in_place(lists):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lists.params[0].shape = (12,)
    lists.fails(ValueError, r"`grads\[0\]` must have the shape")
    for arrays in lists.lists:
        arrays[0] = arrays[0].reshape(12)
    lists.step()


def test_resized_in_place(lists):
    lists.m[0].resize((2, 4), refcheck=False)
    lists.fails(ValueError, r"`exp_avgs\[0\]` must have the shape.*\(3, 4\).*\(2, 4\)")
    lists.m[0].resize((100, 100), refcheck=False)
    lists.fails(ValueError, r"`exp_avgs\[0\]` must have the shape.*\(100, 100\)")
    for arrays in lists.lists:
        arrays[0].resize((300, 40), refcheck=False)
        arrays[0][...] = 1
    lists.step()


def test_read_only_set_in_place(lists):
    lists.params[3].flags.writeable = False
    lists.fails(ValueError, r"`params\[3\]` must be writable")
    lists.params[3].flags.writeable = True
    lists.step()
    lists.grads[3].flags.writeable = False
    lists.step()


def test_other_memory_layout(lists):
    lists.m[3] = np.asfortranarray(lists.m[3])
    lists.fails(ValueError, r"`exp_avgs\[3\]` must have the memory layout")
    for arrays in lists.lists:
        arrays[3] = np.asfortranarray(arrays[3])
    for _ in range(3):
        lists.step()


def test_gradients_that_are_copied_at_every_step():
    """Their layout is not the parameters': what was copied for one step is not for the next."""

    def train(order):
        lists = Lists([(30, 40)])
        lists.grads[0] = np.array(lists.grads[0], order=order)
        for step in range(1, 6):
            lists.grads[0] *= -2
            ops.adam_step(*lists.lists, step=step, lr=0.1)
        return lists.params[0]

    np.testing.assert_array_equal(train("F"), train("C"))


def test_strides_alone_differ(lists):
    memory = np.ones((6, 8), np.float32)
    lists.m[0] = memory[:3, :4]
    lists.fails(ValueError, r"`exp_avgs\[0\]` must be dense")
    lists.m[0] = memory.reshape(-1)[:12].reshape(3, 4)
    lists.step()
    lists.m[0] = memory[::2, :4]
    lists.fails(ValueError, r"`exp_avgs\[0\]` must be dense")


def test_strides_of_arrays_that_are_not_in_c_order(lists):
    memory = np.ones(24, np.float32)
    for arrays in lists.lists:
        arrays[3] = np.asfortranarray(arrays[3])
    lists.m[3] = memory.reshape(4, 3, 2).transpose(2, 1, 0)
    lists.step()
    lists.m[3] = memory.reshape(3, 4, 2).transpose(2, 0, 1)
    lists.fails(ValueError, r"`exp_avgs\[3\]` must have the memory layout")


def test_arrays_that_come_to_overlap(lists):
    lists.m[0] = lists.v[0]
    lists.fails(ValueError, r"must not overlap")
    memory = np.ones(20, np.float32)
    lists.m[0], lists.v[0] = memory[:12].reshape(3, 4), memory[8:].reshape(3, 4)
    lists.fails(ValueError, r"must not overlap.*16 bytes")


def test_the_same_array_twice(lists):
    for arrays in lists.lists:
        arrays[4] = arrays[1]
    lists.fails(ValueError, r"each array may be given once")


def test_something_else_in_the_list(lists):
    array = lists.grads[2]
    for other in (None, 1.0, [1.0], "abc"):
        lists.grads[2] = other
        with pytest.raises(TypeError, match=r"`grads\[2\]` must be an array of NumPy"):
            ops.adam_step(*lists.lists, step=9, lr=0.1)
    lists.grads[2] = array
    lists.step()


def test_other_arrays_at_the_addresses_of_former_ones():
    """Arrays of all shapes and dtypes that come and go in one memory."""
    rng = np.random.default_rng(0)
    memory = np.zeros((4, 3, 256), np.uint8)
    for _ in range(300):
        shape = [(8, 4), (4, 8), (32,), (16,), (2, 2, 8)][rng.integers(5)]
        dtype = [np.float32, np.float64][rng.integers(2)]
        made = Lists([shape] * 3, dtype)
        for arrays, places in zip(made.lists, memory, strict=True):
            for i, place in enumerate(places):
                values = arrays[i]
                arrays[i] = place[: values.nbytes].view(dtype).reshape(shape)
                arrays[i][...] = values
        made.step()
        made.step()
        if rng.integers(2):
            made.m[1] = made.m[1][..., :-1]
            made.fails(ValueError, r"`exp_avgs\[1\]` must have the shape")


def test_more_lists_than_are_remembered():
    many = [Lists(seed=seed) for seed in range(140)]
    for _ in range(4):
        for lists in many:
            lists.step()


@pytest.mark.parametrize("count", [3, 4000])
def test_arrays_are_not_kept_alive(count):
    lists = Lists([(4, 4)] * count)

    def counts():
        inside = [[sys.getrefcount(array) for array in arrays] for arrays in lists.lists]
        return inside, [sys.getrefcount(arrays) for arrays in lists.lists]

    before = counts()
    for _ in range(3):
        lists.step()
    assert counts() == before


def test_options_are_checked_at_every_step(lists):
    with pytest.raises(ValueError, match="`lr` must be"):
        ops.adam_step(*lists.lists, step=4, lr=-1.0)
    with pytest.raises(ValueError, match="`step` must be at least 1"):
        ops.adam_step(*lists.lists, step=0, lr=0.1)
    with pytest.raises(ValueError, match="`step` must be one number or one per array"):
        ops.adam_step(*lists.lists, step=[1, 2], lr=0.1)
    with pytest.raises(ValueError, match="`max_exp_avg_sqs` must be given where `amsgrad` is used"):
        ops.adam_step(*lists.lists, step=4, lr=0.1, amsgrad=True)
    lists.step()
    lists.step(weight_decay=0.1, max_norm=0.5)
    lists.step(skip_nonfinite=True, maximize=True)
    lists.grads[0][0, 0] = np.nan
    before = [p.copy() for p in lists.params]
    assert not ops.adam_step(*lists.lists, step=9, lr=0.1, skip_nonfinite=True)
    for p, old in zip(lists.params, before, strict=True):
        np.testing.assert_array_equal(p, old)


def test_a_check_says_what_a_step_would_and_changes_nothing(lists):
    names = ("exp_avgs", "exp_avg_sqs")
    before = [[array.copy() for array in arrays] for arrays in lists.lists]

    def check(step=4, lr=0.1, grads=lists.grads, **options):
        states = dict(zip(names, lists.lists[2:], strict=True))
        numbers = {"lr": lr}
        how = {"step": step, "check_only": True} | options
        return ops.optimizer_step("adam", lists.params, grads, states, numbers, **how)

    for _ in range(2):  # lists that are new, and that are known
        assert check() is True
        with pytest.raises(ValueError, match="`lr` must be"):
            check(lr=-1.0)
        with pytest.raises(ValueError, match="`step` must be at least 1"):
            check(step=0)
        with pytest.raises(ValueError, match="`max_norm` must be positive"):
            check(max_norm=0.0)
        with pytest.raises(ValueError, match="`grads` must hold one array per parameter"):
            check(grads=lists.grads[1:])
        for arrays, old in zip(lists.lists, before, strict=True):
            for array, was in zip(arrays, old, strict=True):
                np.testing.assert_array_equal(array, was)
    lists.step()


def test_a_seed_is_checked_against_remembered_parameters(lists):
    with pytest.raises(TypeError, match=r"`params\[0\]` must be bfloat16.*float32"):
        ops.adam_step(*lists.lists, step=4, lr=0.1, stochastic_rounding_seed=1)
    lists.step()


def test_states_in_codes_among_arrays(lists):
    codes = [ops.quantized_state(p, signed=False) for p in lists.params]
    for state, v in zip(codes, lists.v, strict=True):
        state.assign(v)
    arrays, lists.v = lists.v, codes
    with pytest.raises(TypeError, match=r"`exp_avg_sqs\[0\]`.*where `amsgrad` is used"):
        ops.adam_step(*lists.lists, step=4, lr=0.1, amsgrad=True, max_exp_avg_sqs=arrays)
    for step in (4, 5, 6):
        if step == 6:  # other scales of the same codes
            codes[:] = [ops.QuantizedState(s.codes, s.scales.copy(), signed=False) for s in codes]
        before = [state.codes.copy() for state in codes]
        expected = [
            ops.QuantizedState(s.codes.copy(), s.scales.copy(), signed=False) for s in codes
        ]
        copies = [[a.copy() for a in some] for some in (lists.params, lists.grads, lists.m)]
        ops.adam_step(*copies, expected, step=step, lr=0.1, beta2=0.5)
        ops.adam_step(*lists.lists, step=step, lr=0.1, beta2=0.5)
        assert codes == expected
        assert any((s.codes != b).any() for s, b in zip(codes, before, strict=True))
        np.testing.assert_array_equal(lists.params[0], copies[0][0])
    lists.v, lists.steps = arrays, 6
    lists.step()


def test_steps_of_each_array(lists):
    copies = [[array.copy() for array in arrays] for arrays in lists.lists]
    for step in (5, [1, 2, 3, 4, 5], [5, 4, 3, 2, 1], 5):
        steps = step if isinstance(step, list) else [step] * 5
        ops.adam_step(*lists.lists, step=step, lr=0.1)
        for i, n in enumerate(steps):
            ops.adam_step(*[[arrays[i]] for arrays in copies], step=n, lr=0.1)
    for ours, theirs in zip(lists.lists, copies, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_optimizers_with_the_same_arrays():
    """An optimizer's plan is its own, though others take lists in the same places."""

    def train(renew):
        lists = Lists()
        for step in range(1, 5):
            for optimizer in (ops.rmsprop_step, ops.adagrad_step, ops.sgd_step):
                if renew:
                    for arrays in lists.lists:
                        kept.append(list(arrays))  # so that no address comes back
                        arrays[:] = [array.copy() for array in arrays]
                optimizer(lists.params, lists.grads, lists.v, step=step, lr=0.1)
        return lists.params

    kept: list[list[np.ndarray]] = []
    for ours, theirs in zip(train(renew=False), train(renew=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_averages_and_copies_come_and_go(lists):
    low = [np.zeros(p.shape, np.float16) for p in lists.params]
    ema = [p.copy() for p in lists.params]
    for _ in range(3):
        lists.steps += 1
        ops.adam_step(
            *lists.lists, step=lists.steps, lr=0.1, ema=ema, ema_momentum=0.5,
            low_precision_copies=low,
        )  # fmt: skip
        for copy, p in zip(low, lists.params, strict=True):
            np.testing.assert_array_equal(copy, p.astype(np.float16))
        kept = [e.copy() for e in ema]
        lists.step()
        for e, k in zip(ema, kept, strict=True):
            np.testing.assert_array_equal(e, k)
    ema[0] = low[0]
    with pytest.raises(ValueError, match=r"must not overlap"):
        ops.adam_step(*lists.lists, step=9, lr=0.1, ema=ema, low_precision_copies=low)


def test_arrays_exchanged_between_lists(lists):
    lists.m[1], lists.v[1] = lists.v[1], lists.m[1]
    lists.step()
    lists.params[1], lists.grads[1] = lists.grads[1], lists.params[1]
    lists.step()
