"""Results do not depend on the instruction set, on the number of threads, or on the run.

Run as a program, this file prints a digest of every case for the instruction set that
``FUSEDNN_FORCE_ISA`` names and for each number of threads given; the tests start it so, once for
each instruction set, and compare. Any NaN equals any NaN.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusednn
import reference as ref
from fusednn import ops

THREADS = (1, 2, 5)
SETS = ("baseline", "x86-64-v2", "x86-64-v3", "x86-64-v4", "neon")
# (outer, channels, inner), seen as NCHW, NHWC and NC: tails of every vector width, more than one
# leaf, more than one thread's work in each direction, few rows of many channels.
SHAPES = (
    (3, 5, 1),
    (2, 3, 31),
    (9, 13, 49),
    (2, 3, 30_009),
    (2, 97, 830),
    (2_101, 67, 1),
    (3, 70_001, 1),
    # Rows of more channels than a unit has.
    (70, 1_100, 1),
    (9, 4_099, 1),
)
# Float32 of these shapes is written past the caches.
LARGE = ((510, 64, 196), (1_600, 4_099, 1))


@functools.cache
def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Normal numbers of many magnitudes, down to subnormal ones."""
    rng = np.random.default_rng(seed)
    magnitude = 2.0 ** rng.integers(-3, 3, shape)
    x = np.array(1.0 + magnitude * rng.standard_normal(shape)).astype(dtype)
    few = rng.random(shape) < 0.01
    x[few] = ref.ml_dtypes.finfo(dtype).smallest_subnormal * 3
    x.flags.writeable = False  # it is shared
    return x


def batch_norm_results(x, axis, slope) -> Iterator[np.ndarray]:
    own, channels = ref.statistics_dtype(x.dtype), x.shape[axis]
    gamma, beta = (numbers((channels,), own, seed) for seed in (1, 2))
    grad = numbers(x.shape, x.dtype, 3)
    running = np.zeros(channels, own), np.ones(channels, own)
    how: dict[str, Any] = {"negative_slope": slope, "channel_axis": axis}
    keep = {"running_mean": running[0], "running_var": running[1]}
    y, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, **keep, **how)
    yield from (y, mean, inv_std, *running)
    yield from ops.batch_norm_backward(grad, x, gamma, beta, mean, inv_std, **how)
    yield from ops.batch_norm_backward(grad, x, None, None, mean, inv_std, **how)
    if slope != 0.0:
        # None so small beside beta that x cannot be recovered.
        small = np.abs(gamma) < 0.1 * np.abs(beta) + 0.01
        large = np.where(small, 1 + np.abs(beta), gamma)
        yield from ops.batch_norm_backward_from_output(grad, y, large, beta, inv_std, **how)
    yield ops.batch_norm_inference(x, gamma, beta, *running, **how)
    yield from ops.batch_norm_inference_backward(grad, x, gamma, beta, *running, **how)
    parts = [ops.batch_norm_statistics(part, channel_axis=axis) for part in np.split(x, [1])]
    yield from (np.asarray(v) for v in (*parts[1], *ops.merge_statistics(parts)))
    sums = ops.batch_norm_backward_reduce(grad, x, gamma, beta, mean, inv_std, **how)
    saved = (grad, x, gamma, beta, mean, inv_std, *sums, x.size // channels)
    yield from (*sums, ops.batch_norm_backward_apply(*saved, **how))


def optimizer_results(kind, dtype, convention, options) -> Iterator[np.ndarray]:
    sizes = ((0,), (1,), (7,), (97,), (), (40, 50))
    if options.keys() >= ref.own_cases(kind, convention)[-1].keys():
        sizes += ((140_001,),)
    params = [numbers(s, dtype).copy() for s in sizes]
    own = ref.statistics_dtype(dtype)
    states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(own) for a in arrays] for name, arrays in states.items()}
    for step in (ref.step_number(convention, nth) for nth in (1, 2, 777)):
        grads = [numbers(s, dtype, step) for s in sizes]
        how = {"convention": convention, "step": step, "lr": 0.01}
        ref.call_step(ops, kind, params, grads, states, **how, **options)
    yield from params
    for name in sorted(states):
        yield from states[name]
    yield np.array(ops.global_norm(params))


def rounding_results(kind, dtype, in_8_bits) -> Iterator[np.ndarray]:
    """bfloat16 rounded at random, and states in 8 bits."""
    params = [numbers(s, dtype).copy() for s in ((0,), (1,), (97,), (1_025,), (40, 50), (140_001,))]
    own = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}
    signed = ("exp_avgs", "momentum_buffers")
    exact = ("exp_infs",)
    states = {
        name: [
            ops.quantized_state(p, signed=name in signed)
            if in_8_bits and name not in exact
            else p * dtype(0)
            for p in params
        ]
        for name in ref.OPTIMIZERS[kind].state_names(own)
    }
    seed = 2**63 + 1 if dtype == ref.ml_dtypes.bfloat16 else None
    for step in (1, 2, 777):
        grads = [numbers(p.shape, np.float32, step) for p in params]
        how = {"step": step, "lr": 0.01, "stochastic_rounding_seed": seed, **own}
        ref.call_step(ops, kind, params, grads, states, **how)
    yield from params
    for name in sorted(states):
        for state in states[name]:
            quantized = isinstance(state, ops.QuantizedState)
            yield from (state.codes, state.scales) if quantized else (state,)


def cases() -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    for dtype in ref.DTYPES:
        for shape in (*SHAPES, *LARGE) if dtype == np.float32 else SHAPES:
            x = numbers(shape, dtype)
            name = f"{dtype}-{'x'.join(map(str, shape))}"
            layouts = {"NCHW": (x, 1), "NHWC": (np.ascontiguousarray(x.transpose(0, 2, 1)), -1)}
            if shape[2] == 1:
                layouts = {"NC": (x[..., 0], 1)}
            for layout, (arranged, axis) in layouts.items():
                for slope in (None, 0.0, 0.01) if x.size < 10_000 else (0.01,):
                    results = batch_norm_results(arranged, axis, slope)
                    yield f"batch_norm-{name}-{layout}-{slope}", results
            activation = (ops.leaky_relu(x, 0.3), ops.leaky_relu_backward(x[::-1], x, 0.3))
            yield f"leaky_relu-{name}", iter(activation)
        special = numbers((7, 97), dtype).copy()
        special[3, ::5] = [np.nan, np.inf, -np.inf, 0.0, -0.0] * 4
        yield f"leaky_relu-{dtype}-special", iter([ops.leaky_relu(special, 0.3)])
        yield f"batch_norm-{dtype}-special", batch_norm_results(special, 1, 0.01)
        for kind, convention in ref.PAIRS:
            for own in ref.own_cases(kind, convention):
                options = own | ref.COMMON_OPTIONS[-1]
                results = optimizer_results(kind, dtype, convention, options)
                yield f"{kind}-{convention}-{ref.case_id(own)}-{dtype}", results

    for kind in ref.OPTIMIZERS:
        for dtype in (np.float32, ref.ml_dtypes.bfloat16):
            for in_8_bits in (True, False):
                name = f"{kind}-{np.dtype(dtype)}-{'8-bit' if in_8_bits else 'random'}"
                yield name, rounding_results(kind, dtype, in_8_bits)


def digest(results: Iterator[np.ndarray]) -> str:
    sha = hashlib.sha256()
    for result in results:
        array = np.ascontiguousarray(result)
        nan = array != array
        if nan.any():
            array = np.where(nan, np.array(np.nan, array.dtype), array)
        sha.update(f"{array.dtype}{array.shape}".encode())
        sha.update(array.reshape(-1).view(np.uint8))
    return sha.hexdigest()


def digests(threads: int) -> dict[str, str]:
    fusednn.set_num_threads(threads)
    return {name: digest(results) for name, results in cases()}


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with `environment` set besides what is."""
    command = [sys.executable, *arguments]
    every = os.environ | environment
    return subprocess.run(command, env=every, capture_output=True, text=True, check=False)


@functools.cache
def digests_of(instruction_set: str) -> dict[str, dict[str, str]]:
    """The digests by run, from a process of its own that is forced to `instruction_set`."""
    done = run_python(__file__, *map(str, THREADS), FUSEDNN_FORCE_ISA=instruction_set)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def different(a: dict[str, str], b: dict[str, str]) -> list[str]:
    return [name for name in a if a[name] != b[name]]


@pytest.mark.parametrize("instruction_set", SETS)
def test_same_bits(instruction_set):
    if instruction_set not in fusednn.instruction_sets():
        pytest.skip(f"this machine does not run {instruction_set}")
    expected = digests_of("baseline")["1"]
    runs = digests_of(instruction_set)
    assert list(runs) == ["1", "2", "5"]
    for threads, found in runs.items():
        assert found.keys() == expected.keys()
        assert different(expected, found) == [], f"with {threads} threads"


def test_the_forced_instruction_set_is_used():
    program = "import fusednn; print(fusednn.instruction_set())"
    assert "baseline" in fusednn.instruction_sets()
    for name in fusednn.instruction_sets():
        done = run_python("-c", program, FUSEDNN_FORCE_ISA=name)
        assert done.stdout.strip() == name, done.stderr


@pytest.mark.parametrize("name", ["avx9", "X86-64-V3", "neon x86-64-v2"])
def test_an_unknown_instruction_set_stops_the_import(name):
    done = run_python("-c", "import fusednn.ops", FUSEDNN_FORCE_ISA=name)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    for part in ("FUSEDNN_FORCE_ISA", name, *fusednn.instruction_sets()):
        assert part in last


def test_an_unsupported_instruction_set_stops_the_import():
    missing = [name for name in SETS if name not in fusednn.instruction_sets()]
    if not missing:
        pytest.skip("this machine runs every instruction set")
    done = run_python("-c", "import fusednn.ops", FUSEDNN_FORCE_ISA=missing[-1])
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert missing[-1] in last


def test_a_digest_sees_one_bit_and_no_nan_payload():
    x = np.array([1.0, np.nan, -0.0], np.float32)
    other_nan = np.array([1.0, -np.nan, -0.0], np.float32)
    assert digest(iter([x])) == digest(iter([other_nan]))
    for changed in ([np.nextafter(np.float32(1), np.float32(2)), np.nan, -0.0], [1, np.nan, 0.0]):
        assert digest(iter([np.array(changed, np.float32)])) != digest(iter([x]))


if __name__ == "__main__":
    print(json.dumps({n: digests(int(n)) for n in sys.argv[1:]}))
