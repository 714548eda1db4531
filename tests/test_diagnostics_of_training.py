"""What `DiagnosticsCallback` sees of training itself: the numbers of `examine`, the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from fusednn import diagnostics, utils
from fusednn.callbacks import TerminateOnNaN
from fusednn.diagnostics import DiagnosticsCallback, Signals, examine
from fusednn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DenseTranspose,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    LeakyReLU,
    ReLU,
)
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((97, 12)).astype(np.float32)
Y = RNG.integers(0, 3, 97)

NETWORKS = {
    "plain": lambda: [Dense(9, "tanh"), Dense(8), Activation("sigmoid"), Dense(7, "relu")],
    "normalised": lambda: [
        Dense(9, bias_initializer="ones"),
        BatchNormalization(gamma_initializer="random_uniform", beta_initializer="random_normal"),
        LeakyReLU(0.2),
        Dense(8),
        BatchNormalization(center=False),
        ReLU(),
        Dense(7, "relu"),
        BatchNormalization(scale=False),
        Dense(6, "tanh"),
    ],
    "frozen": lambda: [
        Dense(9, trainable=False),
        BatchNormalization(trainable=False),
        ReLU(),
        Dense(6, activity_regularizer="l2"),
    ],
    "identities": lambda: [Flatten(), Dense(8, "elu"), Activation("linear"), Flatten()],
    "tied": lambda: [Dense(9, name="tied"), DenseTranspose("tied", "tanh"), Flatten()],
    "nested": lambda: [
        Sequential([Dense(9), BatchNormalization()]),
        Sequential([ReLU(), Dense(4)]),
    ],
}


def network(hidden: list[Layer], rate: float = 0.0) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((12,)), *hidden, Dense(3, "softmax")])
    model.compile(SGD(rate), "sparse_categorical_crossentropy")
    return model


def seen_by(model: Sequential, *, every: int = 1, epochs: int = 1, **fit: object) -> list[Signals]:
    probe = DiagnosticsCallback(verbose=0, every=every)
    options = {"epochs": epochs, "verbose": 0, "shuffle": False, "batch_size": 97} | fit
    model.fit(X, Y, callbacks=[probe], **options)
    return probe.signals


@pytest.mark.parametrize("name", NETWORKS)
def test_one_batch_has_the_numbers_of_examine(name: str) -> None:
    utils.set_random_seed(7)
    model = network(NETWORKS[name]())
    (signals,) = seen_by(model)
    want = examine(model, X, Y)
    leaves = model._leaves
    for i, (mine, its) in enumerate(zip(signals.layers, want.layers, strict=True)):
        assert (mine.name, mine.kind) == (its.name, its.kind)
        assert mine.mean == pytest.approx(its.mean, rel=1e-4, abs=1e-5), mine.name
        assert mine.std == pytest.approx(its.std, rel=1e-4), mine.name
        assert mine.saturated == pytest.approx(its.saturated)
        assert mine.dead == pytest.approx(its.dead)
        if mine.gradient_std is None:
            assert i < {"frozen": 3, "identities": 1}[name]  # below the first that trains
        else:
            fused = isinstance(leaves[i], BatchNormalization)
            fused = fused and isinstance(leaves[i + 1], (LeakyReLU, ReLU))
            other = want.layers[i + 1] if fused else its
            assert mine.gradient_std == pytest.approx(other.gradient_std, rel=1e-3, abs=1e-9)
        if its.weight_gradient is None:
            assert mine.weight_gradient is None
        else:
            assert mine.weight_gradient == pytest.approx(its.weight_gradient, rel=1e-3)


def test_images_and_a_softmax_of_its_own() -> None:
    x = RNG.standard_normal((20, 6, 5, 2)).astype(np.float32)
    utils.set_random_seed(3)
    model = Sequential(
        [
            Input((6, 5, 2)),
            Conv2D(4, 3),
            BatchNormalization(),
            ReLU(),
            Conv2D(3, 2, activation="relu"),
            GlobalAveragePooling2D(),
            Activation("softmax"),
        ]
    )
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    probe = DiagnosticsCallback(verbose=0)
    model.fit(x, Y[:20], callbacks=[probe], verbose=0, shuffle=False)
    want = examine(model, x, Y[:20])
    for i, (mine, its) in enumerate(zip(probe.signals[0].layers, want.layers, strict=True)):
        numbers = (its.mean, its.std, want.layers[i + (i == 1)].gradient_std)
        got = (mine.mean, mine.std, mine.gradient_std)
        assert got == pytest.approx(numbers, rel=1e-3, abs=1e-6), mine.name
        assert mine.dead == pytest.approx(its.dead)


def test_epochs_are_means_over_the_batches_looked_at() -> None:
    model = network([Dense(9, "tanh")])
    whole = examine(model, X[:96], Y[:96]).layers[0]
    signals = seen_by(model, batch_size=16, epochs=3)  # seven batches, the last of one sample
    assert len(signals) == 3
    assert signals[0] == signals[1]
    parts = [examine(model, X[i : i + 16], Y[i : i + 16]).layers[0] for i in range(0, 97, 16)]
    first = signals[0].layers[0]
    assert first.mean == pytest.approx(np.mean([p.mean for p in parts]), abs=1e-6)
    assert first.std == pytest.approx(np.sqrt(np.mean([p.std**2 for p in parts])), rel=1e-4)
    assert first.std == pytest.approx(whole.std, rel=0.1)
    # Of fourteen batches in two epochs the first, sixth and eleventh.
    signals = seen_by(model, batch_size=16, epochs=2, every=5)
    want = [[parts[0], parts[5]], [parts[3]]]
    for seen, own in zip(signals, want, strict=True):
        assert seen.layers[0].mean == pytest.approx(np.mean([p.mean for p in own]), abs=1e-6)
    assert seen_by(model, every=50, epochs=3) == [*seen_by(model, every=1)]


def test_a_unit_is_dead_that_no_batch_wakes() -> None:
    model = network([Dense(4, "relu")])
    kernel = np.zeros((12, 4))
    kernel[0] = 1
    model.layers[0].kernel.assign(kernel)
    model.layers[0].bias.assign(np.array([-2.0, 5.0, -1.0, -50.0]))
    x = np.zeros((32, 12))
    x[20, 0] = 3  # wakes units 0 and 2 in the third of four batches
    probe = DiagnosticsCallback(verbose=0, every=1)
    model.fit(x, Y[:32], batch_size=8, verbose=0, shuffle=False, callbacks=[probe], epochs=2)
    assert [examine(model, x[i : i + 8], Y[:8]).layers[0].dead for i in (8, 16)] == [0.75, 0.25]
    assert [signals.layers[0].dead for signals in probe.signals] == [0.25, 0.25]
    x[20, 0] = 0
    model.fit(x, Y[:32], batch_size=8, verbose=0, callbacks=[probe])
    assert probe.signals[-1].layers[0].dead == 0.75
    assert any("Dead ReLUs: 75%" in sentence for sentence in probe.signals[-1].findings())


def deep(activation: str, scale: float = 1.0, depth: int = 12) -> Sequential:
    model = network([Dense(20, activation) for _ in range(depth)])
    for layer in model.layers[:-1]:
        layer.kernel.assign(scale * layer.kernel.value)
    return model


@pytest.mark.parametrize(
    ("make", "finding"),
    [
        (lambda: deep("sigmoid"), "Vanishing gradients: at layer"),
        (lambda: deep("linear", 4.0), "Exploding gradients: at layer"),
        (lambda: deep("tanh", 50.0, 2), "Saturated: "),
        (lambda: deep("sigmoid", 50.0, 2), "Saturated: "),
        (lambda: deep("linear", 1e30, 3), "are not finite"),
    ],
)
def test_findings_of_a_training(make, finding, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    quiet = [TerminateOnNaN()]
    model.fit(X, Y, callbacks=[DiagnosticsCallback(), *quiet], verbose=0)
    assert finding in capsys.readouterr().out
    healthy = network([Dense(20, "tanh"), BatchNormalization(), ReLU(), Dense(20, "tanh")])
    healthy.fit(X, Y, callbacks=[DiagnosticsCallback()], verbose=0)
    assert capsys.readouterr().out == ""


def test_looking_changes_no_bit() -> None:
    def run(callbacks: list[DiagnosticsCallback]) -> list[np.ndarray]:
        model = network([*NETWORKS["normalised"](), Dropout(0.3)])
        model.compile(Adam(0.01, global_clipnorm=1.0), "sparse_categorical_crossentropy")
        utils.set_random_seed(3)
        model.fit(X, Y, epochs=3, batch_size=16, verbose=0, callbacks=callbacks)
        return model.get_weights()

    probe = DiagnosticsCallback(verbose=0, every=2)
    for a, b in zip(run([probe]), run([]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(probe.signals) == 3


def test_a_step_is_looked_at_once() -> None:
    model = network([Dense(4)])
    probe = DiagnosticsCallback(verbose=0)
    probe.set_model(model)
    probe.on_train_batch_begin(0)
    model.train_on_batch(X[:8], Y[:8])
    first = probe._recording.signals()
    model.train_on_batch(X[:8], Y[:8])
    assert first is not None
    assert probe._recording.signals() is None


def test_refusals() -> None:
    with pytest.raises(ValueError, match="`x` and `y` must be given both or not at all"):
        DiagnosticsCallback(X)
    with pytest.raises(ValueError, match="`every` must be"):
        DiagnosticsCallback(every=0)

    class Doubled(Sequential):
        def call(self, x: np.ndarray, training: bool = False) -> np.ndarray:
            return 2 * super().call(x, training)

    model = Doubled([Input((12,)), Dense(3, "softmax")])
    model.compile("sgd", "mse")
    with pytest.raises(NotImplementedError, match="without a `call` of its own"):
        model.fit(X, X[:, :3], callbacks=[DiagnosticsCallback()], verbose=0)


def test_gradients_that_are_not_known_have_no_point_and_no_number() -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    (signals,) = seen_by(network(NETWORKS["frozen"]()))
    (line,) = diagnostics.plot_gradients(signals).get_lines()
    assert np.isnan(line.get_ydata()).tolist() == [True] * 3 + [False] * 2
    assert len(diagnostics.plot_signal(signals).get_xticklabels()) == 5
    lines = str(signals).splitlines()
    assert len(lines) == 6
    assert len(lines[1].split()) == 3
    assert len(lines[-1].split()) == 4
    plt.close("all")


def test_batches_of_a_generator_are_seen_as_those_of_arrays() -> None:
    def batches() -> Iterator[Any]:
        while True:
            for start in range(0, 96, 32):
                yield X[start : start + 32], Y[start : start + 32]

    seen = []
    for x, y in ((X[:96], Y[:96]), (batches(), None)):
        utils.set_random_seed(1)
        model = Sequential([Input((12,)), *NETWORKS["plain"](), Dense(3, "softmax")])
        model.compile(SGD(0.1), "sparse_categorical_crossentropy")
        callback = DiagnosticsCallback(verbose=0, every=2)
        options = {"batch_size": 32, "shuffle": False} if y is not None else {}
        model.fit(x, y, epochs=2, steps_per_epoch=3, verbose=0, callbacks=[callback], **options)
        seen.append(callback.signals)
    assert len(seen[0]) == 2
    for arrays, generator in zip(*seen, strict=True):
        for a, b in zip(arrays.layers, generator.layers, strict=True):
            assert (a.mean, a.std, a.gradient_std) == (b.mean, b.std, b.gradient_std)
