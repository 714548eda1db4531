"""Tied weights: values, the kernel's whole gradient, who trains it, copies and files."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from fusednn import utils
from fusednn.layers import (
    BatchNormalization,
    Dense,
    DenseTranspose,
    Flatten,
    GaussianNoise,
    Input,
    LeakyReLU,
)
from fusednn.models import (
    Sequential,
    clone_model,
    fold_batch_norm,
    load_model,
    pretrain_autoencoders,
)
from fusednn.optimizers import SGD, Adam

RNG = np.random.default_rng(0)
X = RNG.standard_normal((97, 7))


def coder(dtype: str = "float64", **options: object) -> Sequential:
    utils.set_random_seed(1)
    first, second = (Dense(units, "tanh", dtype=dtype, name=f"dense_{units}") for units in (5, 3))
    return Sequential(
        [
            Input((7,)),
            first,
            second,
            DenseTranspose(second, "tanh", dtype=dtype, name="back_3", **options),
            DenseTranspose(first, dtype=dtype, name="back_5", **options),
        ]
    )


@pytest.mark.parametrize("shape", [(7,), (2, 7), (0, 7), (1, 3, 7)])
def test_values(shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal((4, *shape))
    dense = Dense(5, dtype="float64")
    dense.build((None, *shape))
    back = DenseTranspose(dense, "relu", dtype="float64", bias_initializer="ones")
    h = dense(x)
    want = np.maximum(h @ dense.kernel.numpy().T + 1, 0)
    np.testing.assert_allclose(back(h), want, atol=1e-12)
    assert [v.path for v in back.weights] == [f"{back.name}/bias"]
    assert back.compute_output_shape((None, *shape[:-1], 5)) == (None, *shape)


@pytest.mark.parametrize("use_bias", [True, False])
def test_gradients_are_those_of_finite_differences(use_bias: bool) -> None:
    model = coder(use_bias=use_bias)
    model.compile(SGD(0.0), "mse")
    model.train_on_batch(X, X)
    for variable in model.trainable_weights:
        grad, value = variable.grad.copy(), variable.numpy()
        for place in [(0,) * value.ndim, tuple(n - 1 for n in value.shape)]:
            losses = []
            for shift in (1e-5, -1e-5):
                moved = value.copy()
                moved[place] += shift
                variable.assign(moved)
                losses.append(model.evaluate(X, X, verbose=0, batch_size=97))
            variable.assign(value)
            assert grad[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)


def test_who_trains_the_kernel() -> None:
    model = coder()
    first, second, third, _fourth = model.layers
    first.trainable = third.trainable = False
    model.compile(SGD(0.1), "mse")
    before = model.get_weights()
    model.train_on_batch(X, X)
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True)]
    # The kernel of the second layer gets the share of the frozen way back, too.
    assert same == [True, True, False, False, True, False]
    grad = second.kernel.grad.copy()
    first.trainable = True
    model.compile(SGD(0.0), "mse")
    model.set_weights(before)
    model.train_on_batch(X, X)
    np.testing.assert_allclose(second.kernel.grad, grad, rtol=1e-12)

    alone = Sequential([Input((5,)), DenseTranspose(first, dtype="float64")])
    alone.compile(SGD(0.1), "mse")
    kernel = first.kernel.numpy()
    alone.fit(X[:, :5], X, verbose=0)
    np.testing.assert_array_equal(first.kernel.numpy(), kernel)  # of another model: a constant
    assert np.any(alone.layers[0].bias.numpy())


def test_an_encoder_and_a_decoder_as_nested_models() -> None:
    flat = coder()
    nested = coder()
    nested = Sequential([Sequential(nested.layers[:2]), Sequential(nested.layers[2:])])
    for model in (flat, nested):
        model.compile(Adam(0.01), "mse")
        utils.set_random_seed(2)
        model.fit(X, X, epochs=3, verbose=0)
    for a, b in zip(flat.get_weights(), nested.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_copies_and_files_are_tied_within_themselves(
    tmp_path: Path, ending: str, nested: bool
) -> None:
    model = coder("float32")
    if nested:
        model = Sequential([Sequential(model.layers[:2]), Sequential(model.layers[2:])])
    model.compile("adam", "mse")
    model.fit(X, X, verbose=0)
    model.save(tmp_path / f"model{ending}")
    copies = [load_model(tmp_path / f"model{ending}"), copy.deepcopy(model), clone_model(model)]
    copies[-1].set_weights(model.get_weights())
    for other in copies:
        np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
        first, _, _, last = other._leaves
        assert last.dense is first
        assert first.kernel is not model._leaves[0].kernel
        before = model.get_weights()
        other.compile("adam", "mse")
        other.fit(X, X, verbose=0)
        for a, b in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5", ".safetensors"])
def test_files_of_weights_hold_the_kernel_once(tmp_path: Path, ending: str) -> None:
    model = coder("float32")
    model.save_weights(tmp_path / f"w{ending}")
    other = clone_model(model)
    other.load_weights(tmp_path / f"w{ending}")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    assert len(other.get_weights()) == len(model.get_weights())
    decoder = other._leaves[-1]
    decoder.dense.kernel.assign(2 * decoder.dense.kernel.numpy())
    assert not np.array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_clone_of_the_decoder_alone_goes_on_sharing() -> None:
    model = coder()
    decoder = Sequential(model.layers[2:])
    clone = clone_model(decoder)
    assert clone.layers[0].dense is model.layers[1]
    assert clone.layers[0].bias is not model.layers[2].bias


def test_tied_kernels_are_not_folded() -> None:
    dense = Dense(5)
    model = Sequential(
        [Input((7,)), dense, BatchNormalization(), LeakyReLU(), DenseTranspose(dense)]
    )
    model.compile("adam", "mse")
    model.fit(X, X, epochs=3, verbose=0)
    folded = fold_batch_norm(model)
    assert [type(layer) for layer in folded.layers] == [type(layer) for layer in model.layers]
    assert folded.layers[-1].dense is folded.layers[0]
    np.testing.assert_allclose(folded.predict(X, verbose=0), model.predict(X, verbose=0), 1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_pretraining_with_tied_weights(noise: float) -> None:
    utils.set_random_seed(0)
    model = Sequential([Input((7,)), Dense(20), BatchNormalization(), LeakyReLU(), Dense(12)])
    model.add(LeakyReLU())
    model.add(Dense(2))
    before = model.get_weights()
    histories = pretrain_autoencoders(
        model,
        X,
        tied=True,
        noise=noise,
        optimizer={"class_name": "Adam", "config": {}},
        epochs=30,
        verbose=0,
    )
    for history in histories:
        assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    after = model.get_weights()
    assert np.any(after[0] != before[0])
    np.testing.assert_array_equal(after[-2], before[-2])
    assert len(model.weights) == len(before)


def test_refusals() -> None:
    with pytest.raises(TypeError, match="`dense` must be a Dense layer, or the name of one"):
        DenseTranspose(LeakyReLU())
    dense = Dense(5, name="unbuilt")
    with pytest.raises(ValueError, match="`dense` of layer 'back' must be built before it"):
        Sequential([Input((5,)), DenseTranspose(dense, name="back")])
    with pytest.raises(ValueError, match=r"must be the name of a Dense layer before it.*'absent'"):
        Sequential([Input((5,)), GaussianNoise(0.1, name="absent"), DenseTranspose("absent")])
    model = Sequential([Input((7,)), dense, DenseTranspose("unbuilt")])
    assert model.layers[1].dense is dense
    with pytest.raises(ValueError, match="must have 5 features in its last axis"):
        model.add(DenseTranspose(dense))
    blocks = Sequential([Input((2, 7)), Dense(5), Flatten(), Dense(3), Dense(2)])
    with pytest.raises(ValueError, match="must have 5 features in its last axis"):
        pretrain_autoencoders(blocks, np.zeros((4, 2, 7)), tied=True, verbose=0)

    class Doubled(DenseTranspose):
        def call(self, x: np.ndarray) -> np.ndarray:
            return 2 * super().call(x)

    with pytest.raises(NotImplementedError, match="`call` of Doubled must not be overridden"):
        Sequential([Input((7,)), Dense(5, name="d"), Doubled("d")]).predict(X, verbose=0)
