"""`fusednn.keras` on each of Keras' backends, which a process chooses once: in processes each."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("keras") is None:
    pytest.skip("adapts Keras", allow_module_level=True)
HERE = Path(__file__).parent
FILES = [str(HERE / f"test_keras_fused_{name}.py") for name in ("layer", "optimizers", "models")]


def run(*arguments: str, backend: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments],
        # Small matrices on threads that others' threads keep waiting take seconds.
        env=inherited | {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow takes 1.3 GB: asked for by its name alone"
)


@pytest.mark.parametrize(
    "backend", ["torch", "numpy", pytest.param("tensorflow", marks=needs_tensorflow)]
)
def test_on_other_backends(backend: str) -> None:
    """The files that run on JAX where nothing else is asked for."""
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES, backend=backend)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


ANNOUNCED = """
import warnings
import fusednn.keras as fk
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fk.optimizers.Adam()
    fk.BatchNormalizationLeakyReLU()
    fk.optimizers.SGD()
    fk.BatchNormalizationLeakyReLU()
print(fk.kernels_are_used(), [str(w.message).split(":")[0] for w in caught])
print(fk.kernels_are_used("layers"), fk.kernels_are_used("optimizers"))
try:
    fk.kernels_are_used("losses")
except ValueError as error:
    print(error)
"""


def test_where_keras_computes_it_is_said_once() -> None:
    told = [
        f"\"fusednn.keras has no kernels for {part} on Keras' backend '{{}}'\""
        for part in ("optimizers", "layers")
    ]
    expected = {
        "numpy": ("False [" + ", ".join(told) + "]", "False False"),
        "torch": ("True []", "True True"),
    }
    for backend, lines in expected.items():
        done = run("-c", ANNOUNCED, backend=backend)
        assert done.returncode == 0, done.stderr
        *printed, refused = done.stdout.splitlines()
        assert printed == [line.format(backend, backend) for line in lines]
        assert refused == (
            "`part` must be in ['layers', 'optimizers'], or None. Received: part='losses'"
        )


def test_a_build_without_handlers_for_jax_computes_as_keras() -> None:
    program = f"import sys\nsys.modules['fusednn.jax'] = None\n{ANNOUNCED}"
    done = run("-c", program, backend="jax")
    assert "on Keras' backend 'jax'" in done.stdout, done.stderr
    assert done.stdout.splitlines()[1].startswith("False")


TENSORFLOW = """
import keras
keras.backend.backend = lambda: "tensorflow"
import numpy as np, fusednn.keras as fk
layer, two = fk.BatchNormalizationLeakyReLU(), keras.layers.BatchNormalization()
x = np.random.default_rng(0).standard_normal((8, 3)).astype("float32")
y = keras.layers.LeakyReLU()(two(x, training=True))
np.testing.assert_array_equal(layer(x, training=True), y)
variable = keras.Variable(x)
for optimizer in (fk.optimizers.Adam(0.1), keras.optimizers.Adam(0.1)):
    variable.assign(x)
    optimizer.apply([x], [variable])
    print(np.abs(np.asarray(variable.value)).sum(), fk.kernels_are_used())
"""


def test_tensorflow_computes_as_keras() -> None:
    """The backend's name alone stands for TensorFlow here: its operations are NumPy's."""
    done = run("-W", "ignore", "-c", TENSORFLOW, backend="numpy")
    assert done.returncode == 0, done.stderr
    own, theirs = done.stdout.splitlines()
    assert own == theirs
    assert own.endswith("False")


REAL_TENSORFLOW = """
import warnings
import numpy as np, keras, fusednn.keras as fk
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((5,)), keras.layers.Dense(7), keras.layers.BatchNormalization(),
    keras.layers.LeakyReLU(), keras.layers.Dense(3),
])
x = np.random.default_rng(0).standard_normal((96, 5)).astype("float32")
losses = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    twins = (fk.convert(model), fk.optimizers.Adam(0.1)), (model, keras.optimizers.Adam(0.1))
for network, optimizer in twins:
    network.compile(optimizer, "mse")
    history = network.fit(x, x[:, :3], epochs=3, verbose=0, shuffle=False)
    losses.append(history.history["loss"])
np.testing.assert_allclose(*losses, rtol=1e-5)
print([str(w.message).split(":")[0] for w in caught if "fusednn" in str(w.message)])
"""


@needs_tensorflow
def test_a_fit_on_tensorflow_is_that_of_keras() -> None:
    done = run("-c", REAL_TENSORFLOW, backend="tensorflow")
    assert done.returncode == 0, done.stderr
    for part in ("layers", "optimizers"):
        assert f"no kernels for {part} on Keras' backend 'tensorflow'" in done.stdout


@pytest.mark.parametrize("version", ["2.15.0", None])
def test_keras_3_is_needed(version: str | None) -> None:
    module = "None" if version is None else f"types.SimpleNamespace(__version__={version!r})"
    program = f"import sys, types; sys.modules['keras'] = {module}; import fusednn.keras"
    done = run("-c", program, backend="numpy")
    assert "ImportError: fusednn.keras adapts Keras 3" in done.stderr
    if version is not None:
        assert f"Received: Keras {version}" in done.stderr
