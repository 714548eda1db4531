"""Keras' BatchNormalization and LeakyReLU layers, forward and by the backend's gradients."""

from __future__ import annotations

import keras
import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.keras_backend import ON_JAX, Gradients, Pure, as_array, to_tensor
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if case.variant == "in_place":
        raise UnavailableError("in place is fusednn's own form")
    if case.dtype == "float64":
        raise UnavailableError("Keras normalises float64 with the accuracy of float32")
    data = inputs.activations(case)
    training = case.variant != "inference"
    normalise = keras.layers.BatchNormalization(
        axis=data.layout.channel_axis, momentum=1 - MOMENTUM, epsilon=EPS, dtype=case.dtype
    )
    activate = keras.layers.LeakyReLU(negative_slope=NEGATIVE_SLOPE, dtype=case.dtype)
    model = keras.Sequential([normalise, activate])
    model.build(data.x.shape)
    weights = [data.gamma, data.beta, data.running_mean, data.running_var]
    normalise.set_weights([np.asarray(weight) for weight in weights])
    x = to_tensor(data.x)
    if case.variant in ("backward", "both"):
        grad = to_tensor(data.grad)
        gradients = Gradients(model, x, grad, alone=case.variant == "backward")

        def answer_with_gradients() -> Answer:
            gradients.run()
            results = gradients.results()
            return sample_channels(data, {name: as_array(value) for name, value in results.items()})

        note = "autograd alone, the graph kept" if case.variant == "backward" else ""
        return Contender(
            gradients.run,
            answer_with_gradients,
            reuses=False,
            finish=gradients.wait,
            note="" if ON_JAX else note,
        )
    pure = Pure(model, training=training)

    def answer() -> Answer:
        pure.run(x)
        return sample_channels(data, {"y": as_array(pure.result())})

    return Contender(lambda: pure.run(x), answer, reuses=False, finish=pure.wait)
