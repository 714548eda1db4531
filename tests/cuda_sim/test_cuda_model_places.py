"""Where a model's arrays are: they follow it to the simulated GPU and back."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from models_on_device import FEATURES, LABELS, X, assert_close, compiled

import fusednn
from fusednn import callbacks, devices, models, optimizers
from fusednn.cli import main
from fusednn.layers import Input
from fusednn.models import Sequential


def test_weights_follow_the_model(cupy):
    model = compiled()
    model.train_on_batch(X, LABELS)
    kernel = model.layers[0].kernel
    momentum = model.optimizer.states["momentum"]
    with fusednn.device("cuda") as gpu:
        model.train_on_batch(X, LABELS)
        assert gpu.name == "cuda:0"
        assert kernel.device is gpu
        assert type(kernel.value) is type(kernel.grad) is not np.ndarray
        assert type(momentum[0]) is type(kernel.value)
        model.set_weights([w * 0 for w in model.get_weights()])
        assert not np.any(kernel.numpy())
        assert not np.any(np.asarray(kernel))
        kernel.assign(np.ones(kernel.shape))
        with pytest.raises(ValueError, match="`copy` must not be False: the variable is on cuda:0"):
            np.array(kernel, copy=False)
    model.train_on_batch(X, LABELS)
    assert kernel.device is devices.CPU
    assert type(kernel.value) is type(momentum[0]) is np.ndarray


def test_going_to_and_fro_is_the_same_training(cupy):
    model, theirs = compiled(), compiled()
    for step in range(12):
        with fusednn.device("cuda" if step // 3 % 2 else "cpu"):
            model.train_on_batch(X, LABELS)
        theirs.train_on_batch(X, LABELS)
    assert_close(model.get_weights(), theirs.get_weights())


def test_layers_that_two_models_share(cupy):
    """One model's plans notice that the other one took the weights away, and brought them back."""
    weights = []
    for device in ("cuda", "cpu"):
        model = compiled()
        other = Sequential([Input((FEATURES,)), *model.layers[:2]])
        for _ in range(3):
            with fusednn.device(device):
                model.train_on_batch(X, LABELS)
            other.predict(X, verbose=0)
            assert model.layers[0].kernel.device is devices.CPU
        with fusednn.device(device):
            other.predict(X, verbose=0)
            model.train_on_batch(X, LABELS)
        weights.append(model.get_weights())
    assert_close(*weights)


def test_a_layer_alone_computes_on_the_cpu(cupy):
    with fusednn.device("cuda"):
        model = compiled()
        hidden = model.predict(X, verbose=0)
        y = X
        for layer in model.layers:
            y = layer(y)
    assert_close([y], [hidden])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies(cupy, copied):
    with fusednn.device("cuda"):
        model = compiled()
        model.train_on_batch(X, LABELS)
        twin = copied(model)
        for each in (model, twin):
            each.train_on_batch(X, LABELS)
            each.train_on_batch(X, LABELS)
    assert_close(twin.get_weights(), model.get_weights())


def test_files(cupy, gpu, tmp_path):
    """What the GPU has yet to do is waited for."""
    pytest.importorskip("h5py")
    gpu.set(deferred=1)
    weights = []
    for device in ("cuda", "cpu"):
        with fusednn.device(device):
            model = compiled(optimizer=optimizers.Adam(0.01, use_ema=True))
            for _ in range(4):
                model.train_on_batch(X, LABELS)
            model.save(tmp_path / "model.keras")
            model = models.load_model(tmp_path / "model.keras")
            for _ in range(3):
                model.train_on_batch(X, LABELS)
            model.save_weights(tmp_path / "model.weights.h5")
            model = compiled()
            model.predict(X, verbose=0)
            model.load_weights(tmp_path / "model.weights.h5")
            weights.append(model.get_weights())
    gpu.set(deferred=0)
    assert_close(*weights)


class Stop(callbacks.Callback):
    """Ends a run by an error, after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize("late", [0, 1])
def test_a_training_goes_on_from_its_backup(cupy, gpu, tmp_path, late):
    """What is saved is the GPU's work as far as it was given, not as far as it has come."""

    def run(*more):
        with fusednn.device("cuda"):
            model = compiled(optimizer=optimizers.Adam(0.01, use_ema=True))
            backups = callbacks.BackupAndRestore(tmp_path, save_freq=1)
            model.fit(X, LABELS, epochs=3, verbose=0, callbacks=[backups, *more])
            return model.get_weights()

    gpu.set(deferred=late)
    expected = run()
    for steps in (5, 8):
        with pytest.raises(KeyboardInterrupt):
            run(Stop(steps))
    ours = run()
    gpu.set(deferred=0)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_of_a_users_own(cupy):
    """`apply` takes gradients where the variables are."""
    model = compiled(optimizer="sgd")
    with fusednn.device("cuda") as gpu:
        model.predict(X, verbose=0)
        variables = model.trainable_weights
        before = variables[0].numpy()
        with pytest.raises(TypeError, match=r"`grads\[0\]` must be an array of the dtype float32"):
            model.optimizer.apply([np.ones_like(v.numpy()) for v in variables], variables)
        grads = [gpu.array(np.ones(v.shape, np.float32)) for v in variables]
        with gpu.working():
            model.optimizer.apply(grads, variables)
    np.testing.assert_allclose(variables[0].numpy(), before - 0.01, rtol=1e-6)


def test_the_command_line(cupy, tmp_path, capsys):
    rows = [f"{x[0]},{x[1]},{'ab'[int(x[0] > 0)]}" for x in X]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    options = ["--layers", "8", "--epochs", "9", "--learning-rate", "0.05", "--quiet"]
    assert main(["train", str(tmp_path / "rows.csv"), *options, "--device", "cuda"]) == 0
    assert float(capsys.readouterr().out.split()[2]) > 0.8
    assert cupy.runtime.launches > 0
    assert devices.current() is devices.CPU
