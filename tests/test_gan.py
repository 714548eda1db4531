"""A small generative adversarial network of nested models, and what is left of it afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fusednn import utils
from fusednn.layers import BatchNormalization, Dense, Dropout, Input, LeakyReLU
from fusednn.models import Sequential
from fusednn.optimizers import Adam, RMSprop

DIGITS = load_digits()
X = (DIGITS.data / 16).astype(np.float32)
Y = DIGITS.target
CODE = 12
BATCH = 32


def gan(seed: int) -> tuple[Sequential, Sequential, Sequential]:
    utils.set_random_seed(seed)
    generator = Sequential(
        [
            Input((CODE,)),
            Dense(40, kernel_initializer="he_normal"),
            BatchNormalization(momentum=0.8),
            LeakyReLU(0.2),
            Dense(64, "sigmoid"),
        ],
        name="generator",
    )
    discriminator = Sequential(
        [Input((64,)), Dense(40), LeakyReLU(0.2), Dense(20), LeakyReLU(0.2), Dropout(0.3)],
        name="discriminator",
    )
    discriminator.add(Dense(1, "sigmoid"))
    return generator, discriminator, Sequential([generator, discriminator], name="gan")


def compiled(seed: int) -> tuple[Sequential, Sequential, Sequential]:
    generator, discriminator, both = gan(seed)
    discriminator.compile(RMSprop(1e-3), "binary_crossentropy")
    discriminator.trainable = False
    both.compile(Adam(1e-3), "binary_crossentropy")
    return generator, discriminator, both


def train(generator: Sequential, discriminator: Sequential, both: Sequential, steps: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(steps):
        real = X[rng.integers(0, len(X), BATCH)]
        made = generator.predict_on_batch(rng.standard_normal((BATCH, CODE)))
        labels = np.repeat([0.0, 1.0], BATCH)[:, np.newaxis]
        discriminator.trainable = True  # as it was compiled; else a warning would say so
        discriminator.train_on_batch(np.concatenate([made, real]), labels)
        discriminator.trainable = False
        codes = rng.standard_normal((BATCH, CODE))
        both.train_on_batch(codes, np.ones((BATCH, 1)))


def test_each_step_trains_its_own_half() -> None:
    """Each model keeps what was trainable when it was compiled."""
    generator, discriminator, both = compiled(0)
    codes = np.random.default_rng(0).standard_normal((BATCH, CODE))
    for _ in range(3):
        before = generator.get_weights(), discriminator.get_weights()
        both.train_on_batch(codes, np.ones((BATCH, 1)))
        for a, b in zip(discriminator.get_weights(), before[1], strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(generator.get_weights()[0], before[0][0])
        before = generator.get_weights(), discriminator.get_weights()
        with pytest.warns(UserWarning, match="was changed after the model was compiled"):
            discriminator.train_on_batch(X[:BATCH], np.ones((BATCH, 1)))
        for a, b in zip(generator.get_weights(), before[0], strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(discriminator.get_weights()[0], before[1][0])


def test_gradient_reaches_the_generator_through_the_frozen_half() -> None:
    both = compiled(0)[2]
    codes = np.random.default_rng(0).standard_normal((BATCH, CODE))
    losses = [both.train_on_batch(codes, np.ones((BATCH, 1))) for _ in range(200)]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])  # nobody trains the other half


def test_learns_what_the_data_look_like_and_the_same_bits_again() -> None:
    models = compiled(2)
    train(*models, steps=600)
    generator = models[0]
    codes = np.random.default_rng(5).standard_normal((500, CODE))
    made = generator.predict(codes, verbose=0)
    # The mean digit has bright and dark pixels: untrained, nothing of it is there.
    fresh = gan(2)[0].predict(codes, verbose=0)
    assert np.corrcoef(made.mean(axis=0), X.mean(axis=0))[0, 1] > 0.8
    assert abs(np.corrcoef(fresh.mean(axis=0), X.mean(axis=0))[0, 1]) < 0.4
    again = compiled(2)
    train(*again, steps=600)
    for a, b in zip(models[2].get_weights(), again[2].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_lower_layers_of_the_discriminator_serve_a_classifier() -> None:
    """Pretraining without labels: reuse, freeze, fit the output to few labels."""
    generator, discriminator, both = compiled(3)
    train(generator, discriminator, both, steps=300)
    kept = discriminator.get_weights()
    classifier = Sequential([Input((64,)), *discriminator.layers[:2], Dense(10, "softmax")])
    assert not classifier.layers[0].trainable
    classifier.compile(Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.fit(X[:200], Y[:200], epochs=30, verbose=0)
    assert classifier.evaluate(X[200:], Y[200:], verbose=0)[1] > 0.6
    for a, b in zip(discriminator.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)
