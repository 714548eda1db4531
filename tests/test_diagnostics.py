"""What is found in signals and gradients, and that looking changes nothing."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from fusednn import diagnostics, utils
from fusednn.diagnostics import DiagnosticsCallback, examine
from fusednn.layers import Activation, BatchNormalization, Dense, Dropout, Input
from fusednn.models import Sequential
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 20)).astype(np.float32)
Y = RNG.integers(0, 3, 64)


def deep(activation: str, depth: int = 12, **options: object) -> Sequential:
    utils.set_random_seed(1)
    model = Sequential([Input((20,))])
    for _ in range(depth):
        model.add(Dense(30, activation, **options))
    model.add(Dense(3, "softmax"))
    model.compile(SGD(0.01), "sparse_categorical_crossentropy")
    return model


def test_numbers_are_those_of_the_model() -> None:
    model = Sequential([Input((20,)), Dense(8, "tanh"), Dense(3, "softmax")])
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    signals = examine(model, X, Y)
    hidden, last = signals.layers
    outputs = model.layers[0](X)
    assert hidden.mean == pytest.approx(outputs.mean(), abs=1e-6)
    assert hidden.std == pytest.approx(outputs.std(), rel=1e-5)
    assert hidden.saturated == pytest.approx((np.abs(outputs) > 0.96).mean())
    kept = [v.grad.copy() for v in model.trainable_weights]
    model.train_on_batch(X, Y)
    for a, b in zip(kept, model.trainable_weights, strict=True):
        np.testing.assert_allclose(a, b.grad, rtol=1e-3, atol=1e-6)
    kernel = model.layers[1].kernel
    bias = model.layers[1].bias
    norm = np.sqrt((kernel.grad**2).sum() + (bias.grad**2).sum())
    size = np.sqrt((kernel.value**2).sum() + (bias.value**2).sum())
    assert last.weight_gradient == pytest.approx(norm / size, rel=1e-3)
    assert "layer" in str(signals)


def test_vanishing_exploding_dead_and_saturated() -> None:
    vanishing = examine(deep("sigmoid"), X, Y).findings()
    assert any(s.startswith("Vanishing gradients: at layer") for s in vanishing)
    exploding = examine(deep("linear", kernel_initializer="random_normal", depth=2), X, Y)
    assert not exploding.findings()
    model = deep("linear")
    for layer in model.layers[:-1]:
        layer.kernel.assign(4 * layer.kernel.value)
    assert any(s.startswith("Exploding gradients") for s in examine(model, X, Y).findings())
    model = deep("relu", depth=3)
    model.layers[1].bias.assign(np.full(30, -50.0))
    dead = examine(model, X, Y).findings()
    assert any("Dead ReLUs: 100%" in s and model.layers[1].name in s for s in dead)
    model = deep("tanh", depth=2)
    model.layers[0].kernel.assign(50 * model.layers[0].kernel.value)
    assert any(s.startswith("Saturated:") for s in examine(model, X, Y).findings())
    model.layers[0].kernel.assign(np.full((20, 30), np.nan))
    assert any("are not finite" in s for s in examine(model, X, Y).findings())


def test_batch_normalization_cures_it() -> None:
    utils.set_random_seed(1)
    model = Sequential([Input((20,))])
    for _ in range(12):
        for layer in (Dense(30), BatchNormalization(), Activation("sigmoid")):
            model.add(layer)
    model.add(Dense(3, "softmax"))
    model.compile(Adam(), "sparse_categorical_crossentropy")
    assert examine(model, X, Y).findings() == []


def test_looking_changes_nothing() -> None:
    def run(*, look: bool) -> list[np.ndarray]:
        utils.set_random_seed(3)
        model = Sequential(
            [Input((20,)), Dense(9), BatchNormalization(), Activation("relu"), Dropout(0.3)]
        )
        model.add(Dense(3, "softmax"))
        model.compile(Adam(), "sparse_categorical_crossentropy")
        probe = DiagnosticsCallback(X[:16], Y[:16], verbose=0)
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[probe] if look else [])
        assert len(probe.signals) == (3 if look else 0)
        return model.get_weights()

    for a, b in zip(run(look=True), run(look=False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_callback_tells(capsys: pytest.CaptureFixture[str]) -> None:
    deep("sigmoid").fit(X, Y, verbose=0, callbacks=[DiagnosticsCallback(X, Y)])
    assert "Epoch 1: Vanishing gradients" in capsys.readouterr().out


def test_pictures() -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    model = deep("relu", depth=2)
    signals = examine(model, X, Y)
    ax = diagnostics.plot_signal(signals)
    assert [t.get_text() for t in ax.get_xticklabels()] == [x.name for x in model.layers]
    assert diagnostics.plot_gradients(signals).get_yscale() == "log"
    history = model.fit(X, Y, verbose=0, epochs=2, validation_data=(X, Y))
    drawn = diagnostics.plot_history(history)
    assert [line.get_label() for line in drawn.get_lines()] == ["loss", "val_loss"]
    assert diagnostics.plot_history(history.history, drawn) is drawn
    plt.close("all")


def test_refusals() -> None:
    with pytest.raises(ValueError, match="must be compiled first"):
        examine(Sequential([Dense(2)]), X, Y)
    with pytest.raises(ValueError, match="`y` must hold as many samples"):
        examine(deep("relu"), X, Y[:3])
