"""`fusednn.jax.optimizer_step`: the bits of `fusednn.ops`, in place where arrays are donated."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import reference as ref
from fusednn import ops

jax = pytest.importorskip("jax")
jnp = jax.numpy
fj = pytest.importorskip("fusednn.jax", exc_type=ImportError)

SIZES = ((1,), (0,), (3, 5, 7), (97,))
NOT_HERE = {"ema_momentum", "low_precision_copies", "stochastic_rounding_seed"}


def cases():
    """Every option for RMSProp in the optax convention; all pairs of optimizer and convention."""
    seen = set()
    for kind, convention, options in ref.optimizer_cases():
        everything = (kind, convention) == ("rmsprop", "optax")
        if NOT_HERE & set(options) or ((kind, convention) in seen and not everything):
            continue
        seen.add((kind, convention))
        yield kind, convention, options
    yield "adam", "optax", {"amsgrad": True, "eps_root": 0.01, "max_norm": 1.5, "grad_scale": 4.0}


def split(kind, options):
    """The arguments of `optimizer_step`: hyper-parameters, what may be traced, and the rest."""
    known = fj.steps._core.optimizer_hyperparameters(kind)
    hyperparameters = {k: v for k, v in options.items() if k in known}
    others = {k: v for k, v in options.items() if k not in known and k != "grad_scale"}
    return hyperparameters, options.get("grad_scale"), others


@pytest.mark.parametrize(("kind", "convention", "options"), list(cases()), ids=ref.case_id)
def test_bits_of_ops(make, kind, convention, options):
    params = [make.normal(size) for size in SIZES]
    states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(np.float32) for a in arrays] for name, arrays in states.items()}
    hyperparameters, grad_scale, others = split(kind, options)

    @partial(jax.jit, donate_argnums=(0, 2))
    def step(params, grads, states, lr, count, grad_scale):
        how = {"lr": lr, "count": count, "grad_scale": grad_scale, "convention": convention}
        return fj.optimizer_step(kind, params, grads, states, hyperparameters, **how, **others)

    own = jax.tree.map(jnp.asarray, (params, states))
    for count, lr in enumerate(np.float32([0.1, 0.01, 0.03])):
        grads = [make.normal(size) for size in SIZES]
        moved, kept, stepped = step(
            own[0], list(map(jnp.asarray, grads)), own[1], lr, count, grad_scale
        )
        own = moved, kept
        first = 0 if convention == "onnx" else 1
        how = {"step": count + first, "lr": float(lr), "convention": convention}
        assert ref.call_step(ops, kind, params, grads, states, **how, **options) == bool(stepped)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), own, (params, states))
    assert step._cache_size() == 1  # numbers that change compile nothing


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes(make, dtype):
    with jax.enable_x64(dtype == "float64"):
        params = [make.normal(size, dtype) for size in SIZES]
        states = {n: [np.zeros_like(p) for p in params] for n in ("exp_avgs", "exp_avg_sqs")}
        grads = [make.normal(size, dtype) for size in SIZES]
        own = jax.tree.map(jnp.asarray, (params, grads, states))
        moved, kept, _ = jax.jit(partial(fj.optimizer_step, "adam", lr=0.125, count=0))(
            *own, hyperparameters={}
        )
        ops.adam_step(params, grads, *states.values(), step=1, lr=0.125, convention="optax")
        expected = jax.tree.leaves((params, states))
        for a, b in zip(jax.tree.leaves((moved, kept)), expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_donated_arrays_are_overwritten(make):
    def step(params, grads, states):
        return fj.optimizer_step("adam", params, grads, states, {}, lr=0.1, count=0, max_norm=1.0)

    def arrays():
        # Results of JAX' own: others may lie in NumPy's memory, which is not JAX' to give away.
        params = [1 * jnp.asarray(make.normal(size)) for size in ((300, 100), (7,))]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        return params, zeros(params), {n: zeros(params) for n in ("exp_avgs", "exp_avg_sqs")}

    params, grads, states = arrays()
    before = [a.unsafe_buffer_pointer() for a in jax.tree.leaves((params, states))]
    moved, kept, _ = jax.jit(step, donate_argnums=(0, 2))(params, grads, states)
    after = [a.unsafe_buffer_pointer() for a in jax.tree.leaves((moved, kept))]
    assert after == before
    assert all(a.is_deleted() for a in jax.tree.leaves((params, states)))
    params, grads, states = arrays()
    copies = [np.array(a) for a in jax.tree.leaves((params, states))]
    jax.jit(step)(params, grads, states)
    for a, b in zip(jax.tree.leaves((params, states)), copies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_vmap_steps_each_member_with_its_own_numbers(make):
    """A population of networks, each with a learning rate, in one call."""
    params, grads = (jnp.asarray(make.normal((4, 5, 3))) for _ in range(2))
    rates = jnp.asarray([0.1, 0.2, 0.0, 0.4])

    def step(p, g, lr, count):
        zeros = [jnp.zeros_like(p)]
        states = {"exp_avgs": zeros, "exp_avg_sqs": zeros}
        (new,), _, stepped = fj.optimizer_step(
            "adam", [p], [g], states, {}, lr=lr, count=count, max_norm=0.5, skip_nonfinite=True
        )
        return new, stepped

    grads = grads.at[3, 0, 0].set(jnp.inf)
    together, stepped = jax.jit(jax.vmap(step))(params, grads, rates, jnp.arange(4))
    for i in range(4):
        np.testing.assert_array_equal(together[i], step(params[i], grads[i], rates[i], i)[0])
    assert stepped.tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(together[2:], params[2:])


def test_loops_have_the_bits_of_single_steps(make):
    """Lists that stay in their memory are not checked again, and others take their place there."""

    def lists(sizes):
        params, grads = ([jnp.asarray(make.normal(s)) for s in sizes] for _ in range(2))
        zeros = partial(jax.tree.map, jnp.zeros_like)
        return params, grads, {n: zeros(params) for n in ("exp_avgs", "exp_avg_sqs")}

    def step(count, params, grads, states):
        return fj.optimizer_step("adam", params, grads, states, {}, lr=0.1, count=count)[:2]

    @partial(jax.jit, donate_argnums=(0, 2))
    def loop(params, grads, states):
        def one(i, held):
            return step(i, held[0], grads, held[1])

        return jax.lax.fori_loop(0, 5, one, (params, states))

    # More lists than are remembered; freed memory is used again, for other sizes too.
    all_sizes = [((32,), (32,)), ((64,),), ((8,), (56,)), ((2, 16), (4, 8))] + [((32,), (32,))] * 8
    for sizes in all_sizes * 2:
        params, grads, states = lists(sizes)
        expected = params, states
        for i in range(5):
            expected = step(i, expected[0], grads, expected[1])
        expected = jax.tree.map(np.array, expected)
        got = loop(*jax.tree.map(jnp.copy, (params, grads, states)))
        jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("adam", "exp_avgs", "exp_avg_sqs"), ("adamax", "exp_avgs", "exp_infs")),
        (("rmsprop", "square_avgs", "momentum_buffers"), ("rmsprop", "square_avgs", "grad_avgs")),
    ],
    ids=["kind", "states"],
)
def test_memory_that_another_step_was_made_on(make, first, second):
    """What is remembered of lists in some memory is not taken for other lists that lie there."""

    def program(kind, *names):
        known = {"momentum_buffers": {"momentum": 0.9}, "grad_avgs": {"centered": True}}

        @partial(jax.jit, donate_argnums=(0, 2))
        def step(params, grads, states):
            held = {name: [state] for name, state in zip(names, states, strict=True)}
            how = {"lr": 0.1, "count": 0, "convention": "torch"}
            options = known.get(names[-1], {})
            moved, held, _ = fj.optimizer_step(kind, [params], [grads], held, options, **how)
            return moved[0], [held[name][0] for name in names]

        return step

    def array():
        return 1 * jnp.asarray(np.abs(make.normal(24)) + 1)

    grads, held = array(), (array(), [array(), array()])
    places = [a.unsafe_buffer_pointer() for a in jax.tree.leaves(held)]
    programs = [program(*first), program(*second)]
    for i in range(6):
        copies = jax.tree.map(np.array, held)
        expected = programs[i % 2](jnp.asarray(copies[0]), grads, [*map(jnp.asarray, copies[1])])
        held = programs[i % 2](held[0], grads, held[1])
        assert [a.unsafe_buffer_pointer() for a in jax.tree.leaves(held)] == places
        jax.tree.map(np.testing.assert_array_equal, held, expected)


def test_refusals():
    p = [jnp.ones(3)]
    states = {"exp_avgs": p, "exp_avg_sqs": p}

    def step(kind="adam", params=p, grads=p, states=states, given=(), **options):
        how = {"lr": 0.1, "count": 0, **options}
        return fj.optimizer_step(kind, params, grads, states, dict(given), **how)

    step()
    with pytest.raises(ValueError, match=r"`grads` must hold one array per parameter, 1\. .*: 2"):
        step(grads=p * 2)
    with pytest.raises(ValueError, match=r"`exp_avgs\[0\]` must have the shape .*: shape=\(2,\)"):
        step(states={**states, "exp_avgs": [jnp.ones(2)]})
    with pytest.raises(TypeError, match=r"`params\[0\]` must be float32, .* Received: dtype=int32"):
        step(params=[jnp.arange(3)])
    with pytest.raises(ValueError, match=r"`exp_avg_sqs` must be given"):
        step(states={"exp_avgs": p})
    with pytest.raises(ValueError, match=r"`beta1` must be in \[0, 1\)\. Received: beta1=1"):
        step(given={"beta1": 1.0})
    with pytest.raises(TypeError, match=r"`hyperparameters` must be among lr, .* Received: .betal"):
        step(given={"betal": 0.9})
    with pytest.raises(ValueError, match="`kind` must be"):
        step(kind="adagrat")
    with pytest.raises(Exception, match="`lr` must be finite and not negative"):
        jax.block_until_ready(step(lr=-0.1))
