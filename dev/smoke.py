"""Use an installed fusednn for a second: one kernel against NumPy, one small training run."""

import numpy as np

import fusednn
from fusednn import layers, models, ops, utils


def check_kernel() -> None:
    """Compare BatchNorm + leaky ReLU with its formula in float64."""
    x = np.random.default_rng(0).normal(3.0, 2.0, (97, 13)).astype(np.float32)
    y, mean, inv_std = ops.batch_norm_forward(x, None, None, negative_slope=0.1)
    wide = x.astype(np.float64)
    normalised = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    np.testing.assert_allclose(y, np.where(normalised > 0, normalised, 0.1 * normalised), atol=1e-5)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-5)
    assert inv_std.dtype == np.float32


def check_training() -> None:
    """Learn which of two halves of the input is larger, far better than chance."""
    utils.set_random_seed(0)
    x = np.random.default_rng(1).normal(size=(512, 16)).astype(np.float32)
    labels = (x[:, :8].sum(1) > x[:, 8:].sum(1)).astype(np.int64)
    model = models.Sequential(
        [
            layers.Dense(32, input_shape=(16,)),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.1),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, labels, epochs=10, verbose=0)
    _, accuracy = model.evaluate(x, labels, verbose=0)
    assert accuracy > 0.9, f"accuracy {accuracy} after training"


check_kernel()
check_training()
print(f"smoke: fusednn {fusednn.__version__} computes and trains")
