"""The staged functions: they agree with the one-call form, and unequal and empty parts merge."""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from batch_norm_problem import LAYOUTS, Problem
from fusednn import ops

SHAPES = ((5, 3, 49), (1, 3, 1), (0, 3, 7), (2, 257, 400), (1, 2, 150_001))


def inv_std_of(m2, count, eps=1e-5):
    return (1 / np.sqrt(m2.astype(np.float64) / max(count, 1) + eps)).astype(m2.dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_statistics(make, threads, dtype, layout, shape):
    p = Problem(make, shape, dtype, layout)
    mean, m2, count = ops.batch_norm_statistics(p.x, channel_axis=p.axis)
    assert mean.dtype == m2.dtype == p.gamma.dtype
    assert type(count) is int
    exact_mean, exact_m2, exact_count = ref.batch_norm_statistics(p.x, p.axis)
    assert count == exact_count
    spread = np.sqrt(exact_m2 / max(count, 1))
    ref.assert_near(mean, exact_mean, ulps=2, scale=np.abs(exact_mean) + spread)
    ref.assert_near(m2, exact_m2, ulps=4)


@pytest.mark.parametrize("slope", [None, 0.01])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
def test_stages_agree_with_the_one_call_form(make, threads, dtype, layout, slope):
    p = Problem(make, (5, 33, 784), dtype, layout, slope)
    y, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    staged_mean, m2, count = ops.batch_norm_statistics(p.x, channel_axis=p.axis)
    np.testing.assert_array_equal(staged_mean, mean)
    ref.assert_near(inv_std_of(m2, count), inv_std.astype(np.float64), ulps=2)
    applied = ops.batch_norm_apply(p.x, mean, inv_std, p.gamma, p.beta, **p.how)
    np.testing.assert_array_equal(applied, y)

    saved = (p.grad, p.x, p.gamma, p.beta, mean, inv_std)
    grad_x, grad_gamma, grad_beta = ops.batch_norm_backward(*saved, **p.how)
    sum_grad, sum_grad_xhat = ops.batch_norm_backward_reduce(*saved, **p.how)
    np.testing.assert_array_equal(sum_grad, grad_beta)
    np.testing.assert_array_equal(sum_grad_xhat, grad_gamma)
    sums = (sum_grad, sum_grad_xhat, count)
    staged = ops.batch_norm_backward_apply(*saved, *sums, **p.how)
    expected = ref.batch_norm_backward_apply(*saved, *sums, **p.how)
    assert staged.dtype == dtype
    p.assert_gradients(
        (staged, grad_gamma, grad_beta), (expected, grad_gamma, grad_beta), p.gamma, inv_std, mean
    )
    p.assert_gradients(
        (grad_x, grad_gamma, grad_beta), (expected, grad_gamma, grad_beta), p.gamma, inv_std, mean
    )


@pytest.mark.parametrize("affine", ["gamma", "beta", "neither"])
def test_stages_without_affine(make, affine):
    p = Problem(make, (5, 3, 49), slope=0.1)
    gamma = p.gamma if affine == "gamma" else None
    beta = p.beta if affine == "beta" else None
    y, mean, inv_std = ops.batch_norm_forward(p.x, gamma, beta, **p.how)
    np.testing.assert_array_equal(ops.batch_norm_apply(p.x, mean, inv_std, gamma, beta, **p.how), y)
    p.grad[np.abs(y) < 1e-3] = 0
    saved = (p.grad, p.x, gamma, beta, mean, inv_std)
    sums = ops.batch_norm_backward_reduce(*saved, **p.how)
    grad_x = ops.batch_norm_backward_apply(*saved, *sums, 5 * 49, **p.how)
    expected = ref.batch_norm_backward(*saved, **p.how)
    p.assert_gradients((grad_x, sums[1], sums[0]), expected, gamma, inv_std, mean)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out_and_in_place(make, layout):
    p = Problem(make, (5, 3, 49), layout=layout, slope=0.1)
    y, mean, inv_std = ops.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)
    x = p.x.copy()
    assert ops.batch_norm_apply(x, mean, inv_std, p.gamma, p.beta, out=x, **p.how) is x
    np.testing.assert_array_equal(x, y)
    saved = (p.x, p.gamma, p.beta, mean, inv_std)
    sums = (*ops.batch_norm_backward_reduce(p.grad, *saved, **p.how), 5 * 49)
    expected = ops.batch_norm_backward_apply(p.grad, *saved, *sums, **p.how)
    grad = p.grad.copy()
    assert ops.batch_norm_backward_apply(grad, *saved, *sums, out=grad, **p.how) is grad
    np.testing.assert_array_equal(grad, expected)


@pytest.mark.parametrize("dtype", ref.DTYPES, ids=str)
@pytest.mark.parametrize("cuts", [(7,), (0, 1, 2), (3, 3, 90), (1, 50, 96, 97)], ids=str)
def test_unequal_and_empty_parts_merge(make, dtype, cuts):
    x = make.normal((97, 5, 31), dtype, mean=3.0)
    parts = [ops.batch_norm_statistics(part) for part in np.split(x, cuts)]
    mean, m2, count = ops.merge_statistics(parts)
    assert mean.dtype == m2.dtype == ref.statistics_dtype(dtype)
    assert (type(count), count) == (int, 97 * 31)
    exact_mean, exact_m2, _ = ref.batch_norm_statistics(x)
    ref.assert_near(mean, exact_mean, ulps=4)
    ref.assert_near(m2, exact_m2, ulps=8)
    # What the parts say is merged in float64: nothing is lost but the rounding of the results.
    merged_mean, merged_m2, _ = ref.merge_statistics(parts)
    lost = 16 if dtype == np.float64 else 0.01
    ref.assert_near(mean, merged_mean, ulps=lost)
    ref.assert_near(m2, merged_m2, ulps=lost)


def test_merging_one_part_and_only_empty_parts(make):
    part = ops.batch_norm_statistics(make.normal((4, 3, 5)))
    mean, m2, count = ops.merge_statistics([part])
    np.testing.assert_array_equal(mean, part[0])
    np.testing.assert_array_equal(m2, part[1])
    assert count == 20
    empty = ops.batch_norm_statistics(make.normal((0, 3, 5)))
    mean, m2, count = ops.merge_statistics([empty, empty])
    np.testing.assert_array_equal((mean, m2), np.zeros((2, 3)))
    assert count == 0


@pytest.mark.parametrize("slope", [None, 0.01])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_synchronised_parts_are_the_whole_batch(make, layout, slope):
    """Three unequal workers, one of them idle, give what one worker gives for the whole batch."""
    p = Problem(make, (12, 3, 35), layout=layout, slope=slope)
    cuts = [0, p.x.shape[0] // 4]
    xs, grads = np.split(p.x, cuts), np.split(p.grad, cuts)
    parts = [ops.batch_norm_statistics(x, channel_axis=p.axis) for x in xs]
    mean, m2, count = ops.merge_statistics(parts)
    inv_std = inv_std_of(m2, count)
    apply = [ops.batch_norm_apply(x, mean, inv_std, p.gamma, p.beta, **p.how) for x in xs]
    expected = ref.batch_norm_forward(p.x, p.gamma, p.beta, **p.how)[0]
    np.testing.assert_allclose(np.concatenate(apply), expected, atol=2e-6)

    saved = (p.gamma, p.beta, mean, inv_std)
    pairs = list(zip(grads, xs, strict=True))
    sums = [ops.batch_norm_backward_reduce(*pair, *saved, **p.how) for pair in pairs]
    sum_grad, sum_grad_xhat = (np.sum(s, axis=0) for s in zip(*sums, strict=True))
    total = (sum_grad, sum_grad_xhat, count)
    grad_x = [ops.batch_norm_backward_apply(*pair, *saved, *total, **p.how) for pair in pairs]
    whole = ref.batch_norm_backward(p.grad, p.x, *saved, **p.how)
    np.testing.assert_allclose(np.concatenate(grad_x), whole[0], atol=5e-6)
    np.testing.assert_allclose(sum_grad_xhat, whole[1], atol=1e-4)
    np.testing.assert_allclose(sum_grad, whole[2], atol=1e-4)
