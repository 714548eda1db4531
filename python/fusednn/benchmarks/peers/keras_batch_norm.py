"""Keras' BatchNormalization and LeakyReLU layers, forward."""

from __future__ import annotations

import keras
import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.check import sample_channels
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.keras_backend import Pure, to_tensor
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.variant not in ("forward", "inference"):
        raise UnavailableError("Keras has no gradients apart from a training step")
    if case.dtype == "float64":
        raise UnavailableError("Keras normalises float64 with the accuracy of float32")
    data = inputs.activations(case)
    training = case.variant == "forward"
    normalise = keras.layers.BatchNormalization(
        axis=data.layout.channel_axis, momentum=1 - MOMENTUM, epsilon=EPS, dtype=case.dtype
    )
    activate = keras.layers.LeakyReLU(negative_slope=NEGATIVE_SLOPE, dtype=case.dtype)
    model = keras.Sequential([normalise, activate])
    model.build(data.x.shape)
    weights = [data.gamma, data.beta, data.running_mean, data.running_var]
    normalise.set_weights([np.asarray(weight) for weight in weights])
    x = to_tensor(data.x)
    pure = Pure(model, training=training)

    def answer() -> Answer:
        pure.run(x)
        y = keras.ops.convert_to_numpy(keras.ops.cast(pure.result(), "float32"))
        return sample_channels(data, {"y": y})

    return Contender(lambda: pure.run(x), answer, reuses=False, finish=pure.wait)
