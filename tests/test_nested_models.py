"""A Sequential as a layer of another one: building, training, weights, copies, files."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from fusednn import utils
from fusednn.diagnostics import examine
from fusednn.layers import BatchNormalization, Dense, Dropout, Flatten, Input, LeakyReLU
from fusednn.models import (
    Sequential,
    clone_model,
    fold_batch_norm,
    load_model,
    model_from_json,
    pretrain_autoencoders,
    recalibrate_batch_norm,
)
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((97, 7)).astype(np.float32)
Y = RNG.integers(0, 3, 97)


def parts() -> tuple[Sequential, Sequential]:
    utils.set_random_seed(3)
    body = Sequential(
        [Input((7,)), Dense(9), BatchNormalization(momentum=0.9), LeakyReLU(), Dense(8)],
        name="body",
    )
    head = Sequential(
        [BatchNormalization(momentum=0.9), LeakyReLU(), Dropout(0.2), Dense(3, "softmax")],
        name="head",
    )
    return body, head


def nested() -> Sequential:
    return Sequential(parts(), name="nested")


def flat() -> Sequential:
    body, head = parts()
    return Sequential([Input((7,)), *body.layers, *head.layers], name="flat")


def fit(model: Sequential, epochs: int = 3) -> list[float]:
    utils.set_random_seed(5)
    model.compile(Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    losses: list[float] = model.fit(X, Y, epochs=epochs, verbose=0).history["loss"]
    return losses


def assert_same(a: Sequential, b: Sequential) -> None:
    for mine, theirs in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_trains_with_the_bits_of_one_list_of_layers() -> None:
    ours, theirs = nested(), flat()
    assert fit(ours) == fit(theirs)
    assert_same(ours, theirs)
    np.testing.assert_array_equal(ours.predict(X, verbose=0), theirs.predict(X, verbose=0))
    assert ours.evaluate(X, Y, verbose=0) == theirs.evaluate(X, Y, verbose=0)
    np.testing.assert_array_equal(ours(X), theirs(X))


def test_is_one_layer_to_the_outside(capsys: pytest.CaptureFixture[str]) -> None:
    body, head = parts()
    model = Sequential([body, head])
    assert model.layers[0] is body
    assert model.get_layer("head") is head
    assert model.input_shape == (None, 7)
    assert model.output_shape == (None, 3)
    assert model.output_shapes() == [(None, 8), (None, 3)]
    assert [v.path for v in model.weights] == [v.path for m in (body, head) for v in m.weights]
    assert model.count_params() == body.count_params() + head.count_params()
    model.summary(line_length=80)
    text = capsys.readouterr().out
    assert "body (Sequential)" in text
    assert f"Total params: {model.count_params():,} " in text
    assert model.pop() is head
    assert model.output_shape == (None, 8)


def test_weights_are_shared_with_the_model_inside() -> None:
    body, head = parts()
    model = Sequential([body, head])
    fit(model)
    hidden = body.predict(X, verbose=0)
    np.testing.assert_allclose(head.predict(hidden, verbose=0), model.predict(X, verbose=0), 1e-6)
    body.set_weights([np.zeros_like(w) for w in body.get_weights()])
    assert not np.any(model.get_weights()[0])


def test_built_from_the_outside() -> None:
    inner = Sequential([Dense(4), Dense(2)])
    model = Sequential([Flatten(), Sequential([inner]), Dense(1)])
    assert not model.built
    assert not inner.built
    model.build((None, 2, 3))
    assert inner.built
    assert inner.input_shape == (None, 6)
    assert model.output_shapes() == [(None, 6), (None, 2), (None, 1)]
    late = Sequential([Sequential([Dense(4)]), Dense(1)])
    late.compile("sgd", "mse")
    late.fit(X, Y.astype(np.float32), verbose=0)
    assert late.input_shape == (None, 7)


def test_layers_added_inside_later() -> None:
    body, head = parts()
    model = Sequential([body, head])
    fit(model)
    model.predict(X, verbose=0)
    head.pop()
    head.add(Dense(5, "softmax"))
    assert model.output_shape == (None, 5)
    assert model.predict(X, verbose=0).shape == (97, 5)
    fit(model)
    body.add(Dense(8))
    np.testing.assert_allclose(
        model.predict(X, verbose=0), head.predict(body.predict(X, verbose=0), verbose=0), 1e-6
    )


def test_frozen_inside() -> None:
    body, head = parts()
    model = Sequential([body, head])
    fit(model, epochs=1)
    body.trainable = False
    assert not body.trainable
    assert model.trainable
    assert model.trainable_weights == head.trainable_weights
    before = model.get_weights()
    fit(model)
    # Frozen normalisations keep their statistics, too.
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True)]
    count = len(body.weights)
    assert same == [True] * count + [False] * len(head.weights)
    body.layers[0].trainable = True
    assert [v.path for v in body.trainable_weights] == [v.path for v in body.layers[0].weights]
    before = model.get_weights()
    fit(model)
    assert not np.array_equal(model.get_weights()[0], before[0])
    np.testing.assert_array_equal(model.get_weights()[2], before[2])


def test_rates_inside() -> None:
    model, other = nested(), flat()
    model.layers[0].learning_rate_multiplier = 0.1
    for layer in other.layers[:4]:
        layer.learning_rate_multiplier = 0.1
    fit(model)
    fit(other)
    assert_same(model, other)
    assert clone_model(model).layers[0].learning_rate_multiplier == 0.1


def test_copies() -> None:
    model = nested()
    fit(model)
    clone = clone_model(model)
    assert [type(layer) for layer in clone.layers] == [Sequential] * 2
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])
    clone.set_weights(model.get_weights())
    for other in (clone, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
        before = model.get_weights()
        fit(other)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_files(tmp_path: Path, ending: str) -> None:
    model = Sequential([*nested().layers], name="outer")
    model.layers[0].layers[0].trainable = False  # Keras' old format has trained weights first
    fit(model)
    model.save(tmp_path / f"model{ending}")
    loaded = load_model(tmp_path / f"model{ending}")
    assert [layer.name for layer in loaded.layers] == ["body", "head"]
    assert not loaded.layers[0].layers[0].trainable
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    if ending == ".keras":
        for each in (model, loaded):
            utils.set_random_seed(1)
            each.fit(X, Y, verbose=0)
        assert_same(model, loaded)
    assert model_from_json(model.to_json()).to_json() == model.to_json()


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5", "w.safetensors"])
def test_files_of_weights(tmp_path: Path, name: str) -> None:
    """Layers of two models inside may have the same name."""

    def make() -> Sequential:
        twins = [Sequential([Dense(7, name="same")], name=f"m{i}") for i in range(2)]
        return Sequential([Input((7,)), *twins])

    model, other = make(), make()
    model.save_weights(tmp_path / name)
    other.load_weights(tmp_path / name)
    assert_same(model, other)
    with pytest.raises(ValueError, match="file must hold"):
        flat().load_weights(tmp_path / name)


def test_what_walks_through_layers() -> None:
    model = nested()
    fit(model)
    signals = examine(model, X, Y)
    assert [x.name for x in signals.layers] == [x.name for m in model.layers for x in m.layers]
    other = flat()
    other.set_weights(model.get_weights())
    for each in (model, other):
        recalibrate_batch_norm(each, X)
    assert_same(model, other)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(
        folded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-4, atol=1e-6
    )
    pretrain_autoencoders(model, X, epochs=1, verbose=0)
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])


def test_names_that_coincide_are_numbered_in_the_folded_model() -> None:
    twins = [Sequential([Dense(7, name="same")], name=f"m{i}") for i in range(2)]
    model = Sequential([Input((7,)), *twins])
    assert [layer.name for layer in fold_batch_norm(model).layers] == ["same", "same_1"]


def test_refusals() -> None:
    body, head = parts()
    model = Sequential([body, head])
    with pytest.raises(ValueError, match="`layer` must not hold the model itself"):
        body.add(model)
    with pytest.raises(ValueError, match="`layer` must not hold the model itself"):
        model.add(model)
    with pytest.raises(
        ValueError, match=r"must not be, or hold, a layer that the model has .*LeakyReLU"
    ):
        model.add(Sequential([head.layers[1]]))
    with pytest.raises(ValueError, match="`layer` must have a name that no other layer"):
        model.add(Sequential([Dense(3)], name="body"))
    with pytest.raises(ValueError, match=r"`input_shape` must be \(None, 7\)"):
        model.add(Sequential([Input((7,)), Dense(2)]))
    with pytest.raises(ValueError, match="`layer` must have the dtype of the other layers"):
        model.add(Sequential([Dense(3, dtype="float64")]))
    with pytest.raises(ValueError, match="must have layers before it can be built"):
        model.add(Sequential())
    assert model.layers == [body, head]
    first, second = Sequential([Dense(4)]), Sequential([Dense(4)])
    model = Sequential([Input((4,)), first, second])
    second.add(first.layers[0])
    with pytest.raises(
        ValueError, match="must not be, or hold, a layer that the model has already"
    ):
        model.predict(X[:, :4], verbose=0)


def test_unknown_weights_are_told() -> None:
    """A nested model that grows needs a new compile, as any other."""
    body, head = parts()
    model = Sequential([body, head])
    fit(model)
    body.add(Dense(8))
    with pytest.raises(ValueError, match="Unknown variable"):
        model.fit(X, Y, verbose=0)
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
