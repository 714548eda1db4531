"""Every optimizer and option against real Keras, over 200 steps."""

from __future__ import annotations

import os

import numpy as np
import pytest
from keras_optimizer_options import OWN

import reference as ref
from fusednn import optimizers
from fusednn.variable import Variable

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

# Keras' own tensors do not know NumPy 2's `copy` yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPES = ((5, 19), (19,))
COMMON = [
    {},
    {"weight_decay": 0.1},
    {"clipvalue": 0.5},
    {"clipnorm": 1.0},
    {"global_clipnorm": 1.5},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7},
]
CASES = [(name, own, {}) for name, options in OWN.items() for own in options] + [
    (name, options[-1], common) for name, options in OWN.items() for common in COMMON[1:]
]
NAMES = ("kernel", "bias")


# Keras' names of hyper-parameters, and ours.
NAMED = {"beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}
# Not of the step itself: what a state starts with, and a decay that every class has.
OUTSIDE = {"initial_accumulator_value", "weight_decay"}


def test_every_option_of_every_kind_is_in_the_cases():
    kinds = {name.lower(): name for name in OWN if name != "AdamW"}
    assert set(kinds) == {k for k, convention in ref.PAIRS if convention == "keras"}
    for kind, name in kinds.items():
        named = {key for options in OWN[name] for key in options} - OUTSIDE
        assert {NAMED.get(key, key) for key in named} == ref.own_hyperparameters(kind, "keras")


class Twins:
    """One optimizer of each package on equal variables, fed equal gradients."""

    def __init__(self, rng, name, options, prepare=lambda optimizer: None):
        self.rng = rng
        start = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
        self.mine = [Variable(p, name=n) for p, n in zip(start, NAMES, strict=True)]
        self.theirs = [
            keras.Variable(p, name=n, dtype="float32") for p, n in zip(start, NAMES, strict=True)
        ]
        self.optimizer = getattr(optimizers, name)(**options)
        self.peer = getattr(keras.optimizers, name)(**options)
        prepare(self.optimizer)
        prepare(self.peer)
        self.optimizer.build(self.mine)
        self.peer.build(self.theirs)

    def step(self, indices=(0, 1)):
        # A drift, so that the trajectories lead somewhere, and noise.
        grads = [(0.3 + self.rng.standard_normal(SHAPES[i])).astype(np.float32) for i in indices]
        self.optimizer.apply(grads, [self.mine[i] for i in indices])
        tensors = [keras.ops.convert_to_tensor(g) for g in grads]
        self.peer.apply(tensors, [self.theirs[i] for i in indices])

    def check(self, tolerance=1e-5):
        for mine, theirs in zip(self.mine, self.theirs, strict=True):
            want = keras.ops.convert_to_numpy(theirs.value)
            np.testing.assert_allclose(mine.value, want, rtol=tolerance, atol=tolerance)

    def finish(self):
        self.optimizer.finalize_variable_values(self.mine)
        self.peer.finalize_variable_values(self.theirs)
        self.check()


@pytest.mark.parametrize(("name", "own", "common"), CASES, ids=ref.case_id)
def test_200_steps(rng, name, own, common):
    twins = Twins(rng, name, {"learning_rate": 0.01, **own, **common})
    before = [v.numpy() for v in twins.mine]
    for step in range(200):
        twins.step()
        if step in (0, 6, 30):
            twins.check()
    twins.check()
    twins.finish()
    assert all(np.abs(v.value - b).max() > 0.02 for v, b in zip(twins.mine, before, strict=True))


EVERY_OWN = [(name, own) for name, options in OWN.items() for own in options]


@pytest.mark.parametrize(("name", "own"), EVERY_OWN, ids=ref.case_id)
def test_changing_the_learning_rate(rng, name, own):
    """With momentum the rate is inside the buffer: a change of it fades in."""
    # Keras on PyTorch computes 1 - beta ** step in float32, which errs by some 3e-5 of a step.
    tolerance = 5e-5 if keras.backend.backend() == "torch" else 1e-5
    twins = Twins(rng, name, {"learning_rate": 0.1, **own})
    for rate in (0.1, 0.02, 0.5, 0.0, 0.01):
        twins.optimizer.learning_rate = rate
        twins.peer.learning_rate = rate
        for _ in range(5):
            twins.step()
        twins.check(tolerance)


SCHEDULES = {
    "ExponentialDecay": (0.1, 10, 0.5),
    "PiecewiseConstantDecay": ([10, 11, 30], [0.1, 0.5, 0.02, 0.001]),
    "PolynomialDecay": (0.1, 10, 0.001, 2.0, True),  # again and again
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "own"), EVERY_OWN, ids=ref.case_id)
def test_a_schedule(rng, name, own, schedule):
    """Keras' own schedule leads both; what the decay of weights takes follows it, too."""
    rate = getattr(keras.optimizers.schedules, schedule)(*SCHEDULES[schedule])
    twins = Twins(rng, name, {"weight_decay": 0.05, **own})
    rates = [float(rate(step)) for step in range(50)]
    twins.optimizer.learning_rate = rates.__getitem__
    twins.peer.learning_rate = rate
    for _ in rates:
        twins.step()
    twins.check()


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.2},
        {"weight_decay": 0.2, "global_clipnorm": 1.0},
        {"weight_decay": 0.2, "clipnorm": 1.0, "use_ema": True, "ema_overwrite_frequency": 3},
    ],
    ids=ref.case_id,
)
def test_exclusion_from_weight_decay(rng, options):
    twins = Twins(
        rng,
        "Adam",
        {"learning_rate": 0.01, **options},
        prepare=lambda optimizer: optimizer.exclude_from_weight_decay(var_names=["bias"]),
    )
    for _ in range(50):
        twins.step()
    twins.check()


def test_some_variables_per_step(rng):
    options = {"learning_rate": 0.01, "use_ema": True, "ema_momentum": 0.8, "weight_decay": 0.1}
    twins = Twins(rng, "RMSprop", options)
    for step in range(30):
        twins.step([(0, 1), (1,), (0,), (1, 0)][step % 4])
    twins.check()
    twins.finish()


@pytest.mark.parametrize("name", OWN)
def test_configs_are_exchangeable(name):
    peer = getattr(keras.optimizers, name)(name="mine")
    config = peer.get_config()
    mine = getattr(optimizers, name).from_config(config)
    ours = mine.get_config()
    assert {k: v for k, v in config.items() if k in ours} == ours
    assert set(config) - set(ours) == {"loss_scale_factor", "gradient_accumulation_steps"}
    again = type(peer).from_config(ours)
    assert again.get_config() == config
