"""A training step of a Keras model: ``train_on_batch``, or on JAX a jitted stateless step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import Training
from fusednn.benchmarks.peers.keras_backend import ON_JAX, jitted, to_tensor, wait_for
from fusednn.benchmarks.samples import TRAINING_STEPS
from fusednn.benchmarks.shapes import EPS, MODELS, MOMENTUM, NEGATIVE_SLOPE, STEP_LEARNING_RATE


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.training(case)
    widths = MODELS[case.subject].widths
    model = keras.Sequential([keras.Input((widths[0],))])
    dense = []
    for i, width in enumerate(widths[1:]):
        last = i == len(widths) - 2
        # A bias before BatchNorm changes nothing: left out, as those who tune do.
        dense.append(keras.layers.Dense(width, use_bias=last))
        model.add(dense[-1])
        if not last:
            model.add(keras.layers.BatchNormalization(momentum=1 - MOMENTUM, epsilon=EPS))
            model.add(keras.layers.LeakyReLU(negative_slope=NEGATIVE_SLOPE))
    for layer, kernel in zip(dense, data.kernels, strict=True):
        layer.set_weights([kernel, *([np.zeros(widths[-1])] if layer.use_bias else [])])
    model.compile(
        optimizer=keras.optimizers.Adam(STEP_LEARNING_RATE, epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    return _stateless(model, data) if ON_JAX else _train_on_batch(model, data)


def _train_on_batch(model: Any, data: Training) -> Contender:
    def step() -> float:
        loss: float = model.train_on_batch(data.x, data.labels)
        return loss

    def answer() -> Answer:
        return {"losses": np.array([float(step()) for _ in range(TRAINING_STEPS)])}

    return Contender(step, answer, reuses=False)


def _stateless(model: Any, data: Training) -> Contender:
    """Make a jitted step of Keras' stateless functions: twice as fast as ``train_on_batch``."""
    import jax

    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)

    def loss_of(trainable: Any, others: Any, x: Any, labels: Any) -> Any:
        logits, others = model.stateless_call(trainable, others, x, training=True)
        return model.loss(labels, logits), others

    def step(trainable: Any, others: Any, states: Any, x: Any, labels: Any) -> Any:
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), grads = gradient(trainable, others, x, labels)
        trainable, states = optimizer.stateless_apply(states, grads, trainable)
        return trainable, others, states, loss

    call = jitted(step, donated=(0, 1, 2))
    groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies: what is donated must not be what the variables hold.
    latest: list[Any] = [[keras.ops.copy(v.value) for v in group] for group in groups]
    latest.append(None)
    x, labels = to_tensor(data.x), to_tensor(data.labels.astype(np.int32))

    def run() -> None:
        latest[:] = call(*latest[:3], x, labels)

    def answer() -> Answer:
        losses = []
        for _ in range(TRAINING_STEPS):
            run()
            losses.append(float(latest[3]))
        return {"losses": np.array(losses)}

    note = "stateless_call and stateless_apply in one jitted step"
    return Contender(run, answer, reuses=True, finish=lambda: wait_for(latest), note=note)
