"""Keras' LeakyReLU layer, forward and by the backend's gradients."""

from __future__ import annotations

import keras

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers.keras_backend import ON_JAX, Gradients, Pure, as_array, to_tensor
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    if ON_JAX and case.dtype == "float64":
        raise UnavailableError("Keras on JAX computes float64 in float32")
    data = inputs.activations(case)
    model = keras.Sequential(
        [keras.layers.LeakyReLU(negative_slope=NEGATIVE_SLOPE, dtype=case.dtype)]
    )
    model.build(data.x.shape)
    x = to_tensor(data.x)
    if case.variant == "forward":
        pure = Pure(model, training=False)

        def answer() -> Answer:
            pure.run(x)
            return sample_channels(data, {"y": as_array(pure.result())})

        return Contender(lambda: pure.run(x), answer, reuses=False, finish=pure.wait)
    gradients = Gradients(model, x, to_tensor(data.grad), alone=True)

    def answer_backward() -> Answer:
        gradients.run()
        return sample_channels(data, {"grad_x": as_array(gradients.results()["grad_x"])})

    note = "" if ON_JAX else "autograd alone, the graph kept"
    return Contender(gradients.run, answer_backward, reuses=False, finish=gradients.wait, note=note)
