"""The optimizers of `fusednn.keras` beside Keras' own on the same backend, option by option.

Runs on the backend that KERAS_BACKEND names; test_keras_backends.py starts it on the others.
"""

from __future__ import annotations

import os
import warnings

import keras_optimizer_options
import numpy as np
import pytest

from reference import case_id

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")
from fusednn.keras import kernels_are_used, optimizers  # noqa: E402  needs Keras

ops = keras.ops
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:fusednn.keras has no kernels:UserWarning"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning"),
]
needs_kernels = pytest.mark.skipif(
    not kernels_are_used("optimizers"), reason="Keras itself computes on this backend"
)
SHAPES = ((5, 19), (19,), (0, 3), (2, 3, 7))
NAMES = ("kernel", "bias", "none", "table")
OWN = {name: own for name, own in keras_optimizer_options.OWN.items() if hasattr(optimizers, name)}
COMMON = [
    {"weight_decay": 0.1},
    {"clipvalue": 0.5},
    {"clipnorm": 1.0},
    {"global_clipnorm": 1.5},
    {"clipnorm": 0.0},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7},
    {"loss_scale_factor": 8.0},
    {"loss_scale_factor": 8.0, "global_clipnorm": 1.5, "weight_decay": 0.1},
    {"gradient_accumulation_steps": 3},
    {
        "gradient_accumulation_steps": 2,
        "loss_scale_factor": 8.0,
        "clipnorm": 1.0,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 3,
    },
]
CASES = [(name, own, {}) for name, options in OWN.items() for own in options] + [
    (name, options[-1], common) for name, options in OWN.items() for common in COMMON
]
# JAX compiles each operation of a step outside of a program, in a tenth of a second.
FEW = BACKEND == "jax"
CHOSEN = ["SGD", "Adam"] if FEW else list(OWN)
if FEW:  # sums of gradients are in the models' tests, which are compiled as a whole
    CASES = [case for case in CASES if "gradient_accumulation_steps" not in case[2]][::7]


def numpy(x):
    short = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    x = ops.cast(x, "float32") if short else ops.convert_to_tensor(x)
    return np.array(ops.convert_to_numpy(x))


class Twins:
    """One optimizer of each package on equal variables, fed equal gradients."""

    def __init__(self, rng, name, options, prepare=lambda *_: None, dtypes=("float32", "float32")):
        self.rng, self.dtypes = rng, dtypes
        start = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
        self.sides = []
        for package, dtype in zip((optimizers, keras.optimizers), dtypes, strict=True):
            variables = [
                keras.Variable(p, name=n, dtype=dtype) for p, n in zip(start, NAMES, strict=True)
            ]
            optimizer = getattr(package, name)(**options)
            prepare(optimizer, variables)
            optimizer.build(variables)
            self.sides.append((optimizer, variables))

    @property
    def own(self):
        return self.sides[0]

    def step(self, indices=(0, 1, 2, 3), scale=1.0, missing=()):
        # A drift, so that the trajectories lead somewhere, and noise.
        grads = [scale * (0.3 + self.rng.standard_normal(SHAPES[i])) for i in indices]
        for (optimizer, variables), dtype in zip(self.sides, self.dtypes, strict=True):
            tensors = [ops.cast(ops.convert_to_tensor(g, "float32"), dtype) for g in grads]
            tensors = [None if i in missing else t for i, t in zip(indices, tensors, strict=True)]
            optimizer.apply(tensors, [variables[i] for i in indices])

    def check(self, tolerance=2e-5):
        """Variables, states, averages and counts are equal."""
        (own, mine), (peer, theirs) = self.sides
        assert len(own.variables) == len(peer.variables)
        pairs = [*zip(own.variables, peer.variables, strict=True), *zip(mine, theirs, strict=True)]
        for one, other in pairs:
            np.testing.assert_allclose(numpy(one), numpy(other), rtol=tolerance, atol=tolerance)


@needs_kernels
@pytest.mark.parametrize(("name", "own", "common"), CASES, ids=case_id)
def test_trajectories(rng, name, own, common):
    twins = Twins(rng, name, {"learning_rate": 0.01, **own, **common})
    before = [numpy(v) for v in twins.own[1]]
    for step in range(8 if FEW else 25):
        twins.step()
        if step in (0, 1, 6):
            twins.check()
    twins.check()
    for optimizer, variables in twins.sides:
        optimizer.finalize_variable_values(variables)
    twins.check()
    moved = [np.abs(numpy(v) - b) for v, b in zip(twins.own[1], before, strict=True)]
    assert all(m.max() > 0.01 for m in moved if m.size)


@needs_kernels
@pytest.mark.parametrize("name", CHOSEN)
def test_some_variables_have_no_gradient(rng, name):
    twins = Twins(rng, name, OWN[name][-1] | {"use_ema": True, "ema_momentum": 0.9})
    for indices, missing in [((0, 1, 3), (1,)), ((3, 0), ()), ((0, 1, 2, 3), (0, 3)), ((1,), ())]:
        twins.step(indices, missing=missing)
        twins.check()


@needs_kernels
@pytest.mark.parametrize("common", [{}, {"global_clipnorm": 1.0}, {"clipnorm": 1.0}], ids=case_id)
@pytest.mark.parametrize("name", CHOSEN[:1] if FEW else ["SGD", "Adam"])
def test_variables_without_weight_decay(rng, name, common):
    def prepare(optimizer, variables):
        optimizer.exclude_from_weight_decay(var_names=["bias"], var_list=[variables[3]])

    options = {"weight_decay": 0.3, "learning_rate": 0.05, **common}
    twins = Twins(rng, name, options, prepare)
    for _ in range(5):
        twins.step()
    twins.check()
    free = Twins(rng, name, options)
    free.step(scale=0.0)
    assert np.abs(numpy(free.own[1][1])).max() > 0


@needs_kernels
@pytest.mark.parametrize("common", [{"global_clipnorm": 1.5}, {"clipnorm": 1.0}], ids=case_id)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("decay", [0.1] if FEW else [None, 0.1])
def test_gradients_that_are_not_finite(rng, common, bad, decay):
    def prepare(optimizer, variables):
        optimizer.exclude_from_weight_decay(var_names=["bias"])

    twins = Twins(rng, "SGD", {**common, "weight_decay": decay}, prepare)
    for optimizer, variables in twins.sides:
        grads = [np.ones(shape, np.float32) for shape in SHAPES]
        grads[0][0, 0] = bad
        optimizer.apply([ops.convert_to_tensor(g) for g in grads], variables)
    for one, other in zip(twins.sides[0][1], twins.sides[1][1], strict=True):
        np.testing.assert_array_equal(np.isnan(numpy(one)), np.isnan(numpy(other)))


@needs_kernels
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CHOSEN)
def test_dtypes(rng, name, dtype):
    if dtype == "float64" and BACKEND == "jax":
        pytest.skip("JAX has float64 only where it is enabled for the whole process")
    options = {"learning_rate": 0.05, "epsilon": 1e-3, "use_ema": True}
    if name == "SGD":
        options = {"learning_rate": 0.05, "momentum": 0.5, "use_ema": True}
    # In short types Keras rounds after each operation, beta_2 = 0.999 to 1, too: see float32's.
    twins = Twins(
        rng, name, options, dtypes=(dtype, "float64" if dtype == "float64" else "float32")
    )
    for _ in range(4):
        twins.step()
    twins.check({"float64": 1e-6, "bfloat16": 0.06, "float16": 8e-3}[dtype])


@needs_kernels
@pytest.mark.parametrize("name", CHOSEN)
def test_rates_that_change(rng, name):
    own = OWN[name][-1]
    twins = Twins(rng, name, {"learning_rate": 0.1, **own})
    for rate in (0.1, 0.5, 0.0, 0.01):
        for optimizer, _ in twins.sides:
            optimizer.learning_rate = rate
        for _ in range(3):
            twins.step()
        twins.check()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    for rate in (schedule, lambda: 0.02):
        twins = Twins(rng, name, {"learning_rate": rate, **own, "weight_decay": 0.1})
        for _ in range(5):
            twins.step()
        twins.check()


@needs_kernels
@pytest.mark.parametrize("name", CHOSEN)
def test_states_go_both_ways_in_the_middle(rng, name):
    options = OWN[name][-1] | {"use_ema": True, "gradient_accumulation_steps": None if FEW else 2}
    twins = Twins(rng, name, options)
    for _ in range(5):
        twins.step()
    (own, mine), (peer, theirs) = twins.sides
    crossed = []
    for package, optimizer, variables in (
        (optimizers, peer, theirs),
        (keras.optimizers, own, mine),
    ):
        copies = [keras.Variable(numpy(v), name=v.name) for v in variables]
        new = getattr(package, name).from_config(optimizer.get_config())
        new.build(copies)
        store = {}
        optimizer.save_own_variables(store)
        new.load_own_variables(store)
        crossed.append((new, copies))
    twins.sides = crossed
    for _ in range(3):
        twins.step()
    twins.check()
    grads = [np.ones(shape, np.float32) for shape in SHAPES]
    for optimizer, variables in ((own, mine), crossed[0]):
        optimizer.set_weights([numpy(v) for v in crossed[1][0].variables])
        for variable, value in zip(variables, crossed[1][1], strict=True):
            variable.assign(value)
        optimizer.apply([ops.convert_to_tensor(g) for g in grads])
    for one, other in zip(mine, crossed[0][1], strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


@pytest.mark.parametrize("name", CHOSEN)
def test_config_and_serialisation(name):
    optimizer = getattr(optimizers, name)(
        **{"learning_rate": 0.25, "clipnorm": 2.0, "use_ema": True, "name": "own"} | OWN[name][-1]
    )
    config = optimizer.get_config()
    assert config == getattr(keras.optimizers, name).from_config(config).get_config()
    serialized = keras.optimizers.serialize(optimizer)
    assert serialized["registered_name"] == f"fusednn>{name}"
    for copy in (
        type(optimizer).from_config(config),
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
        keras.optimizers.get(serialized),
    ):
        assert type(copy) is getattr(optimizers, name)
        assert copy.get_config() == config
    assert isinstance(optimizer, getattr(keras.optimizers, name))


@needs_kernels
def test_a_loss_scale_optimizer_around(rng):
    """It skips steps whose gradients are not finite, and divides by a scale of its own."""
    if BACKEND == "jax":
        pytest.skip("on JAX Keras' own works in compiled programs alone")
    start = rng.standard_normal((3, 4)).astype(np.float32)
    results = []
    for package in (optimizers, keras.optimizers):
        variable = keras.Variable(start)
        inner = package.Adam(0.1)
        outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
        for value in (4.0, np.inf, 2.0):
            outer.apply([ops.convert_to_tensor(np.full((3, 4), value, np.float32))], [variable])
        results.append([numpy(variable), *map(numpy, outer.variables)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_constraints_and_single_updates(rng):
    start = rng.standard_normal((3, 4)).astype(np.float32)
    results = []
    for package in (optimizers, keras.optimizers):
        variable = keras.Variable(start)
        variable.constraint = keras.constraints.NonNeg()
        optimizer = package.Adam(0.1)
        optimizer.apply([ops.ones((3, 4))], [variable])
        optimizer.update_step(ops.ones((3, 4)), variable, 0.1)
        results.append(numpy(variable))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    assert (results[0] == -0.1).any() or (results[0] <= 0).any()


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras has no stateless steps there")
def test_a_stateless_step_changes_nothing(rng):
    results = []
    start = rng.standard_normal((3, 4)).astype(np.float32)
    for package in (optimizers, keras.optimizers):
        variable = keras.Variable(start)
        optimizer = package.Adam(0.1, loss_scale_factor=2.0)
        optimizer.build([variable])
        states = [v.value for v in optimizer.variables]
        new, states = optimizer.stateless_apply(states, [ops.ones((3, 4))], [variable.value])
        if package is optimizers or BACKEND != "torch":  # where Keras' own does write
            np.testing.assert_array_equal(numpy(variable), start)
        assert int(optimizer.iterations) == 0
        results.append([numpy(new[0]), *map(numpy, states)])
        assert optimizer.loss_scale_factor == 2.0
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_step_that_fails_changes_nothing(rng):
    twins = Twins(rng, "Adam", {"loss_scale_factor": 2.0})
    optimizer, variables = twins.own
    before = [numpy(v) for v in (*variables, *optimizer.variables)]
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([ops.ones((2,))], [keras.Variable(np.ones(2, np.float32))])
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply([None], [variables[0]])
    assert optimizer.loss_scale_factor == 2.0
    for variable, value in zip((*variables, *optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)


def test_arguments_are_checked_as_by_keras():
    with pytest.raises(ValueError, match="Only one of `clipnorm`, `clipvalue`"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ValueError, match="`momentum` must be a float between"):
        optimizers.SGD(momentum=1.5)
    with pytest.raises(ValueError, match="`weight_decay` must be a float"):
        optimizers.AdamW(weight_decay=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="not recognized"):
            optimizers.Adam(speed=2)
