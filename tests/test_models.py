"""`Sequential` as a list of layers: building, weights, summary, running, sharing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusednn.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    LeakyReLU,
)
from fusednn.models import Sequential, clone_model
from fusednn.optimizers import SGD


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def small_model() -> Sequential:
    return Sequential(
        [Input((4,)), Dense(5), BatchNormalization(), LeakyReLU(), Dense(3, activation="softmax")]
    )


# ---- the list of layers


def test_built_as_layers_are_added() -> None:
    model = Sequential(name="m")
    model.add(Input(shape=(4,)))
    assert not model.built
    model.add(Dense(5))
    assert model.built
    assert (model.input_shape, model.output_shape) == ((None, 4), (None, 5))
    model.add(Dense(2))
    assert model.output_shape == (None, 2)
    assert [layer.units for layer in model.layers] == [5, 2]
    assert model.count_params() == 4 * 5 + 5 + 5 * 2 + 2


@pytest.mark.parametrize("first", [{"input_shape": (4,)}, {"input_shape": [4]}, {"input_dim": 4}])
def test_input_shape_on_the_first_layer(first: dict[str, Any]) -> None:
    model = Sequential([Dense(5, **first)])
    assert model.input_shape == (None, 4)


def test_built_by_build_or_by_data() -> None:
    model = Sequential([Dense(5), Dense(2)])
    assert not model.built
    assert model.weights == []
    model.build((None, 4))
    assert model.count_params() == 37
    by_data = Sequential([Flatten(), Dense(5)])
    assert by_data(normal(3, 2, 2)).shape == (3, 5)
    assert by_data.input_shape == (None, 2, 2)


def test_pop_and_add_again() -> None:
    model = small_model()
    last = model.pop()
    assert isinstance(last, Dense)
    assert model.output_shape == (None, 5)
    model.add(Dense(2))
    assert model(normal(3, 4)).shape == (3, 2)
    for _ in range(4):
        model.pop()
    with pytest.raises(ValueError, match="no layer to remove"):
        model.pop()


def test_get_layer() -> None:
    model = Sequential([Input((4,)), Dense(5, name="a"), Dense(5, name="b")])
    assert model.get_layer("b") is model.layers[1]
    assert model.get_layer(index=-2) is model.layers[0]
    with pytest.raises(ValueError, match=r"`name` must be one of a, b\. Received: name='c'"):
        model.get_layer("c")
    with pytest.raises(ValueError, match=r"`index` must be .* Received: index=2"):
        model.get_layer(index=2)
    with pytest.raises(ValueError, match="Exactly one of `name` and `index`"):
        model.get_layer()


BAD_LAYERS: list[tuple[Callable[[Sequential], Any], type[Exception], str]] = [
    (lambda m: "dense", TypeError, "`layer` must be a Layer or a Sequential. Received: 'dense'"),
    (lambda m: Sequential([m]), ValueError, "`layer` must not hold the model itself"),
    (lambda m: Input((4,)), ValueError, "An Input must come first"),
    (lambda m: m.layers[0], ValueError, "must not be, or hold, a layer that the model has"),
    (lambda m: Dense(2, name="a"), ValueError, "must have a name that no other layer"),
    (lambda m: Dense(2, dtype="float64"), ValueError, "mixed precision is not supported"),
    (lambda m: BatchNormalization(axis=2), ValueError, "`axis` of layer"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD_LAYERS)
def test_bad_layers_leave_the_model_alone(
    make: Callable[[Sequential], Any], error: type[Exception], message: str
) -> None:
    model = Sequential([Input((4,)), Dense(5, name="a")])
    with pytest.raises(error, match=message):
        model.add(make(model))
    assert len(model.layers) == 1
    assert model.output_shape == (None, 5)


def test_errors_of_a_model_that_is_not_built() -> None:
    model = Sequential([Dense(5)], name="m")
    for read in (lambda: model.input_shape, lambda: model.output_shape, model.count_params):
        with pytest.raises(ValueError, match="input shape of model 'm' is not known"):
            read()
    with pytest.raises(ValueError, match="must have layers"):
        Sequential().build((None, 3))
    model.build((None, 3))
    with pytest.raises(ValueError, match=r"`input_shape` must be \(None, 3\).*\(None, 4\)"):
        model.build((None, 4))


def test_the_seeds_way_of_writing_a_deep_network() -> None:
    model = Sequential()
    model.add(Flatten(input_shape=[28, 28]))
    model.add(BatchNormalization())
    for units in (300, 100):
        model.add(Dense(units, kernel_initializer="he_normal", use_bias=False))
        model.add(BatchNormalization())
        model.add(Activation("relu"))
    model.add(Dense(10, activation="softmax"))
    assert model.count_params() == 4 * 784 + 784 * 300 + 4 * 300 + 300 * 100 + 4 * 100 + 1010
    assert model.predict(normal(2, 28, 28), verbose=0).shape == (2, 10)


# ---- weights and summary


def test_order_and_kinds_of_weights() -> None:
    model = small_model()
    names = [v.name for v in model.weights]
    norm = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert names == ["kernel", "bias", *norm, "kernel", "bias"]
    assert [v.name for v in model.non_trainable_weights] == norm[2:]
    assert len(model.trainable_variables) == 6
    assert model.weights[0].path == f"{model.layers[0].name}/kernel"


def test_get_and_set_weights() -> None:
    a, b = small_model(), small_model()
    x = normal(6, 4)
    assert not np.array_equal(a(x), b(x))
    weights = a.get_weights()
    b.set_weights(weights)
    np.testing.assert_array_equal(a(x), b(x))
    weights[0][...] = 7  # copies
    assert not np.any(a.weights[0].value == 7)
    before = b.get_weights()
    with pytest.raises(ValueError, match=r"must hold 8 arrays.*Received: 7"):
        b.set_weights(weights[1:])
    weights[-1] = np.zeros(4)
    with pytest.raises(ValueError, match=r"must have shape \(3,\) for .*bias.*\(4,\)"):
        b.set_weights(weights)
    for old, new in zip(before, b.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_summary_is_the_table_of_keras() -> None:
    model = Sequential(
        [
            Input((64,)),
            Dense(100, name="first"),
            BatchNormalization(name="norm"),
            Dense(10, name="out"),
        ],
        name="net",
    )
    model.layers[0].trainable = False
    text: list[str] = []
    model.summary(line_length=60, print_fn=text.append)
    assert len(text) == 1
    assert text[0].splitlines() == [
        'Model: "net"',
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┓",
        "┃ Layer (type)             ┃ Output Shape      ┃   Param # ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━┩",
        "│ first (Dense)            │ (None, 100)       │     6,500 │",
        "├──────────────────────────┼───────────────────┼───────────┤",
        "│ norm                     │ (None, 100)       │       400 │",
        "│ (BatchNormalization)     │                   │           │",
        "├──────────────────────────┼───────────────────┼───────────┤",
        "│ out (Dense)              │ (None, 10)        │     1,010 │",
        "└──────────────────────────┴───────────────────┴───────────┘",
        " Total params: 7,910 (30.90 KB)",
        " Trainable params: 1,210 (4.73 KB)",
        " Non-trainable params: 6,700 (26.17 KB)",
    ]


def test_summary_of_a_model_that_is_not_built(capsys: pytest.CaptureFixture[str]) -> None:
    Sequential([Dense(3)]).summary()
    out = capsys.readouterr().out
    assert "0 (unbuilt)" in out
    assert "│ ?" in out


# ---- running


def test_results_are_new_arrays() -> None:
    model = small_model()
    x = normal(3, 4)
    calls = [model, model.predict_on_batch, lambda x: model.predict(x, verbose=0)]
    results = [call(x) for call in calls]
    copies = [r.copy() for r in results]
    for call in calls:
        call(x + 1)
    for result, kept in zip(results, copies, strict=True):
        np.testing.assert_array_equal(result, kept)
        np.testing.assert_array_equal(result, copies[0])


def test_what_x_may_be() -> None:
    model = small_model()
    x = np.arange(12).reshape(3, 4)
    expected = model(x.astype("float32"))
    for given in (x, x.tolist(), x.astype("float64"), x.astype("uint8"), np.asfortranarray(x)):
        np.testing.assert_array_equal(model(given), expected)
        np.testing.assert_array_equal(model.predict(given, verbose=0), expected)
    assert expected.dtype == np.float32


def test_float64() -> None:
    layers = [Dense(5, dtype="float64"), BatchNormalization(dtype="float64")]
    model = Sequential([Input((4,), dtype="float64"), *layers])
    model.compile("adam", "mse")
    model.train_on_batch(normal(8, 4), normal(8, 5))
    assert model.dtype == np.float64
    assert {v.dtype for v in model.weights} == {np.dtype("float64")}
    assert model(normal(2, 4)).dtype == np.float64


def test_one_feature_may_lack_its_axis() -> None:
    model = Sequential([Input((1,)), Dense(1)])
    model.compile("sgd", "mse")
    x = np.linspace(0, 1, 10)
    model.fit(x, 2 * x, verbose=0)
    assert model.predict(x, verbose=0).shape == (10, 1)


BAD_X: list[tuple[Any, type[Exception], str]] = [
    (
        np.ones((2, 5)),
        ValueError,
        r"`x` must have shape \(None, 4\).*Received: x of shape \(2, 5\)",
    ),
    (np.ones(4), ValueError, r"`x` must have shape \(None, 4\).*\(4,\)"),
    (3.0, ValueError, "`x` must have a first axis of samples"),
    ([["a"] * 4], TypeError, r"`x` must be an array of real numbers\. Received: list of dtype <U1"),
    ([[1, 2], [3]], ValueError, "`x` must be a rectangular array"),
    (np.ones((2, 4), complex), TypeError, "real numbers.*complex128"),
    ({1.0, 2.0}, TypeError, "real numbers.*set"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD_X)
def test_bad_x(x: Any, error: type[Exception], message: str) -> None:
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    for call in (model, model.predict, model.predict_on_batch, lambda x: model.fit(x, [0, 1])):
        with pytest.raises(error, match=message):
            call(x)


def test_call_in_training_mode() -> None:
    model = Sequential([Input((4,)), BatchNormalization(name="norm"), Dropout(0.5)])
    x = 3 + normal(64, 4)
    np.testing.assert_allclose(model(x), x / np.sqrt(1.001), rtol=1e-6)
    samples = np.stack([model(x, training=True) for _ in range(200)])
    assert (samples == 0).any()
    assert np.abs(samples.mean(axis=(0, 1))).max() < 0.1
    moved = model.get_layer("norm").moving_mean.numpy()
    np.testing.assert_allclose(moved, x.mean(axis=0) * (1 - 0.99**200), rtol=1e-3)
    model.trainable = False
    model(x, training=True)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, moved)


# ---- trainable, sharing, cloning


def test_trainable_takes_effect_at_compile() -> None:
    model = small_model()
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    x, y = normal(9, 4), np.arange(9) % 3
    dense, norm = model.layers[:2]
    dense.trainable = norm.trainable = False
    assert len(model.trainable_weights) == 2
    kernel, mean = dense.kernel.numpy(), norm.moving_mean.numpy()
    with pytest.warns(UserWarning, match="`trainable` of .* was changed after the model was"):
        model.train_on_batch(x, y)
    assert not np.array_equal(dense.kernel, kernel)
    assert not np.array_equal(norm.moving_mean, mean)

    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    frozen = dense.get_weights() + norm.get_weights()
    last = model.layers[-1].kernel.numpy()
    model.train_on_batch(x, y)
    for old, new in zip(frozen, dense.get_weights() + norm.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(model.layers[-1].kernel, last)


def test_layers_are_shared_between_models() -> None:
    a = small_model()
    b = Sequential(a.layers[:-1])
    assert b.input_shape == (None, 4)
    b.add(Dense(2))
    b.compile(SGD(0.5), "mse")
    before = a(normal(5, 4))
    b.fit(normal(16, 4), normal(16, 2), verbose=0)
    assert a.layers[0] is b.layers[0]
    assert not np.array_equal(a(normal(5, 4)), before)


def test_clone_has_its_own_weights() -> None:
    a = small_model()
    a.layers[1].trainable = False
    clone = clone_model(a)
    assert clone.name == a.name
    assert [layer.get_config() for layer in clone.layers] == [
        layer.get_config() for layer in a.layers
    ]
    assert not np.array_equal(clone.layers[0].kernel, a.layers[0].kernel)
    clone.set_weights(a.get_weights())
    x = normal(5, 4)
    before = a(x)
    np.testing.assert_array_equal(clone(x), before)
    clone.compile(SGD(0.5), "sparse_categorical_crossentropy")
    clone.fit(x, [0, 1, 2, 0, 1], verbose=0)
    np.testing.assert_array_equal(a(x), before)
    assert not np.array_equal(clone(x), before)


def test_deep_copies_train_apart() -> None:
    a = small_model()
    a.compile(SGD(0.5, momentum=0.9), "sparse_categorical_crossentropy")
    x, y = normal(6, 4), [0, 1, 2, 0, 1, 2]
    a.fit(x, y, verbose=0)
    b = copy.deepcopy(a)
    before = a(x)
    np.testing.assert_array_equal(b(x), before)
    trained = [m.fit(x, y, epochs=3, shuffle=False, verbose=0).history for m in (b, a)]
    assert trained[0] == trained[1]
    np.testing.assert_array_equal(a(x), b(x))
    assert not np.array_equal(a(x), before)


def test_clone_function_and_errors() -> None:
    a = Sequential([Input((4,)), Dense(5), Dropout(0.5, seed=1)])

    def without_dropout(layer: Layer) -> Layer:
        if isinstance(layer, Dropout):
            return Activation("linear")
        return type(layer).from_config(layer.get_config())

    assert isinstance(clone_model(a, without_dropout).layers[1], Activation)
    with pytest.raises(TypeError, match="`model` must be a Sequential"):
        clone_model(a.layers[0])  # type: ignore[arg-type]


def test_names_of_models() -> None:
    assert Sequential(name="mine").name == "mine"
    assert Sequential().name.startswith("sequential")
    assert not Sequential([Input((2,)), Dense(1)], trainable=False).trainable
