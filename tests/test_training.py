"""What the package is for: deep networks that learn real data, and one that cannot without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fusednn import utils
from fusednn.layers import Activation, BatchNormalization, Dense, Input, Layer, LeakyReLU
from fusednn.models import Sequential, pretrain_autoencoders, recalibrate_batch_norm
from fusednn.optimizers import SGD, Adam, Optimizer, RMSprop

SEEDS = [pytest.param((0,), id="seed 0")]
SEEDS += [pytest.param(range(5), id="five seeds", marks=pytest.mark.learning)]

TRAINED_ON = 1437  # of the 1797 digits
BATCH_SIZE = 32


def cosine(rate: float, epochs: int) -> Callable[[int], float]:
    """Learning rate that falls to 0: the last steps do not depend on luck."""
    last = epochs * math.ceil(TRAINED_ON / BATCH_SIZE)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / last))


OPTIMIZERS: dict[str, Callable[[int], Optimizer]] = {
    "Adam": lambda epochs: Adam(cosine(3e-3, epochs)),
    "RMSprop": lambda epochs: RMSprop(cosine(1e-3, epochs)),
    "Nesterov": lambda epochs: SGD(cosine(0.05, epochs), momentum=0.9, nesterov=True),
}


def digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Handwritten digits, 8 x 8: 80 % to train on, 20 % to test, classes in proportion."""
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        x / 16, y, test_size=0.2, stratify=y, random_state=seed
    )
    assert len(train_x) == TRAINED_ON
    return train_x, test_x, train_y, test_y


def leaky_relu() -> Layer:
    return LeakyReLU(0.01)


def sigmoid() -> Layer:
    return Activation("sigmoid")


def deep_network(
    depth: int,
    width: int,
    activation: Callable[[], Layer],
    *,
    normalize: bool,
    initializer: str,
    momentum: float = 0.9,
) -> Sequential:
    model = Sequential([Input((64,))])
    for _ in range(depth):
        model.add(Dense(width, kernel_initializer=initializer))
        if normalize:
            model.add(BatchNormalization(momentum=momentum))
        model.add(activation())
    model.add(Dense(10, activation="softmax"))
    return model


def accuracy_after(
    seed: int,
    optimizer: str,
    epochs: int,
    depth: int,
    width: int,
    activation: Callable[[], Layer] = leaky_relu,
    *,
    normalize: bool = True,
    initializer: str = "he_normal",
) -> float:
    """Accuracy on the test set of a network trained with this seed."""
    train_x, test_x, train_y, test_y = digits(seed)
    utils.set_random_seed(seed)
    model = deep_network(depth, width, activation, normalize=normalize, initializer=initializer)
    model.compile(
        OPTIMIZERS[optimizer](epochs), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train_x, train_y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model.evaluate(test_x, test_y, return_dict=True)["accuracy"]  # type: ignore[index]


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_four_layers_with_batch_normalization(optimizer: str, seeds: Sequence[int]) -> None:
    accuracies = [accuracy_after(seed, optimizer, 40, 4, 128) for seed in seeds]
    assert min(accuracies) >= 0.97, accuracies
    if len(accuracies) > 1:
        assert np.mean(accuracies) >= 0.98, accuracies


@pytest.mark.learning
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_twenty_layers_with_batch_normalization(optimizer: str) -> None:
    accuracies = [accuracy_after(seed, optimizer, 40, 20, 100) for seed in range(5)]
    assert np.mean(accuracies) >= 0.97, accuracies
    assert min(accuracies) >= 0.95, accuracies


def test_twenty_layers_with_batch_normalization_soon() -> None:
    # Of 360 test images; sums that BLAS rounds otherwise move it by up to eight of them.
    assert accuracy_after(0, "Nesterov", 15, 20, 100) >= 0.9


@pytest.mark.parametrize("seeds", SEEDS)
def test_twenty_sigmoid_layers_learn_nothing_without_batch_normalization(
    seeds: Sequence[int],
) -> None:
    """The gradient shrinks in every layer: the last layer learns the classes' frequencies only."""
    epochs = 10 if len(seeds) > 1 else 4
    how = {"normalize": False, "initializer": "glorot_uniform"}
    accuracies = [accuracy_after(seed, "Adam", epochs, 20, 100, sigmoid, **how) for seed in seeds]
    assert max(accuracies) <= 0.2, accuracies


@pytest.mark.parametrize("seeds", SEEDS)
def test_twenty_sigmoid_layers_learn_with_batch_normalization(seeds: Sequence[int]) -> None:
    epochs = 20 if len(seeds) > 1 else 10
    how = {"normalize": True, "initializer": "glorot_uniform"}
    accuracies = [accuracy_after(seed, "Adam", epochs, 20, 100, sigmoid, **how) for seed in seeds]
    assert min(accuracies) >= 0.8, accuracies


@pytest.mark.parametrize("seeds", SEEDS)
def test_population_statistics_after_few_steps(seeds: Sequence[int]) -> None:
    """At momentum 0.99 moving averages still hold four fifths of what they began with."""
    for seed in seeds:
        train_x, test_x, train_y, test_y = digits(seed)
        utils.set_random_seed(seed)
        model = deep_network(
            4, 128, leaky_relu, normalize=True, initializer="he_normal", momentum=0.99
        )
        model.compile(Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(train_x, train_y, batch_size=64, steps_per_epoch=20, verbose=0)

        def accuracy(model: Sequential = model, x: Any = test_x, y: Any = test_y) -> float:
            return model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]  # type: ignore[index]

        moving = accuracy()
        recalibrate_batch_norm(model, train_x)
        assert accuracy() > moving + 0.05, (seed, moving, accuracy())
        assert accuracy() > 0.85


@pytest.mark.learning
def test_pretraining_gains_a_little_with_few_labels() -> None:
    """Denoising autoencoders on all samples, then fifty labels; the mean of eight seeds."""
    gains = []
    for seed in range(8):
        train_x, test_x, train_y, test_y = digits(seed)
        chosen = np.concatenate([np.flatnonzero(train_y == c)[:5] for c in range(10)])
        accuracies = []
        for pretrained in (True, False):
            utils.set_random_seed(seed)
            model = deep_network(4, 128, leaky_relu, normalize=True, initializer="he_normal")
            if pretrained:
                pretrain_autoencoders(model, train_x, epochs=20, verbose=0)
            utils.set_random_seed(seed)
            model.compile(Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(train_x[chosen], train_y[chosen], epochs=40, verbose=0)
            accuracies.append(model.evaluate(test_x, test_y, verbose=0)[1])  # type: ignore[index]
        gains.append(accuracies[0] - accuracies[1])
    assert np.mean(gains) > 0, gains


def test_gradient_vanishes_in_sigmoid_layers_and_not_behind_batch_normalization() -> None:
    """Ratio of the first to the last hidden layer's gradient, before any training."""
    train_x, _, train_y, _ = digits(0)

    def ratio(*, normalize: bool) -> float:
        utils.set_random_seed(0)
        model = deep_network(20, 100, sigmoid, normalize=normalize, initializer="glorot_uniform")
        model.compile(SGD(0.0), "sparse_categorical_crossentropy")
        model.train_on_batch(train_x[:256], train_y[:256])
        kernels = [v for v in model.weights if v.name == "kernel"]
        return float(np.std(kernels[0].grad) / np.std(kernels[-2].grad))

    assert ratio(normalize=False) < 1e-8
    assert ratio(normalize=True) > 0.1
