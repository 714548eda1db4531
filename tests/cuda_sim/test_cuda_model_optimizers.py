"""Every optimizer's step on the simulated GPU, in models: options, groups, states in 8 bits."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from models_on_device import LABELS, X, assert_close, compiled, fitted

import fusednn
from fusednn import optimizers
from fusednn.models import Sequential

OPTIMIZERS: dict[str, Callable[[], optimizers.Optimizer]] = {
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.01, centered=True, momentum=0.5),
    "adagrad": lambda: optimizers.Adagrad(0.05),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True, clipvalue=0.05),
    "clipnorm": lambda: optimizers.Adam(0.01, clipnorm=0.1),
    "global_clipnorm": lambda: optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.1),
    "schedule": lambda: optimizers.Adam(lambda step: 0.02 / (1 + step)),
    "average": lambda: optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=3),
}


def excluding(**options: Any) -> optimizers.Optimizer:
    optimizer = optimizers.AdamW(0.01, weight_decay=0.1, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


OPTIMIZERS["two groups"] = excluding
OPTIMIZERS["norm over two groups"] = lambda: excluding(global_clipnorm=0.1)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(cupy, name):
    ours, _ = fitted("cuda", optimizer=OPTIMIZERS[name])
    theirs, _ = fitted("cpu", optimizer=OPTIMIZERS[name])
    assert ours.optimizer.iterations == theirs.optimizer.iterations == 16
    assert_close(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.1}], ids=["plain", "norm"])
def test_learning_rate_multipliers(cupy, options):
    """A change between two steps reaches the graph that would be replayed."""

    def slower_then_faster(device: str) -> Sequential:
        with fusednn.device(device):
            model = compiled(optimizer=optimizers.Adam(0.02, weight_decay=0.1, **options))
            for multiplier in (1.0, 0.25, 0.25, 0.25, 0.5):
                model.layers[0].learning_rate_multiplier = multiplier
                model.train_on_batch(X, LABELS)
        return model

    assert_close(slower_then_faster("cuda").get_weights(), slower_then_faster("cpu").get_weights())


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 3, "use_ema": True, "global_clipnorm": 0.5},
        {"loss_scale_factor": 8.0},
        {"skip_nonfinite": True},
    ],
    ids=str,
)
def test_options_of_steps(cupy, options):
    def make() -> optimizers.Optimizer:
        return optimizers.Adam(0.01, **options)

    theirs, _ = fitted("cpu", optimizer=make)
    ours, _ = fitted("cuda", optimizer=make)
    assert_close(ours.get_weights(), theirs.get_weights(), "float32")
    assert ours.optimizer.calls == theirs.optimizer.calls
    assert ours.optimizer.iterations == theirs.optimizer.iterations


def test_states_in_8_bits(cupy):
    def make() -> optimizers.Optimizer:
        return optimizers.Adam(0.01, quantized_states=True)

    theirs, _ = fitted("cpu", optimizer=make)
    ours, _ = fitted("cuda", optimizer=make)
    # A gradient's last bit may change a code.
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)
    for states in ours.optimizer.states.values():
        assert all(type(state.codes).__module__ == "cupy" for state in states)
    values = [v.numpy() for v in ours.optimizer.variables]
    copy = pickle.loads(pickle.dumps(ours.optimizer))
    ours.optimizer.variables[3].assign(values[3] * 2)
    np.testing.assert_array_equal(ours.optimizer.variables[3].numpy(), values[3] * 2)
    ours.optimizer.variables[3].assign(values[3])
    with fusednn.device("cpu"):
        ours.fit(X, LABELS, epochs=1, verbose=0)
    assert all(
        isinstance(part, np.ndarray)
        for states in ours.optimizer.states.values()
        for state in states
        for part in (state.codes, state.scales)
    )
    for ours_then, copied in zip(values, copy.variables, strict=True):
        np.testing.assert_array_equal(copied.numpy(), ours_then)
