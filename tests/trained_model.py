"""A small trained model of many kinds of layers, for the tests of files."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn import layers, utils
from fusednn.models import Sequential

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 48)


def trained(optimizer: Any = "adam", **options: Any) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential(
        [
            layers.Input((6,)),
            layers.Dense(8, kernel_regularizer="l2", bias_constraint="non_neg", name="first"),
            layers.BatchNormalization(momentum=0.9),
            layers.LeakyReLU(0.1),
            layers.Dense(5, activation="gelu", kernel_initializer="he_normal"),
            layers.PReLU(),
            layers.Dropout(0.25),
            layers.Dense(3, activation="softmax"),
        ],
        name="net",
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    model.fit(X, Y, epochs=2, verbose=0)
    return model
