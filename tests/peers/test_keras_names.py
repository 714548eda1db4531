"""Which of Keras' names are here, and for each that is not, of what kind it is."""

from __future__ import annotations

import inspect
import os
from fnmatch import fnmatchcase
from types import ModuleType

import pytest

import fusednn

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="compares with Keras")

#: Patterns of names that are left out, by kind; docs/differences.md names the kinds.
LEFT_OUT = {
    "layers": {
        "one and three axes": "*1D *3D *[13]DTranspose",
        "sequences": "RNN *RNN *RNNCell* LSTM* GRU* ConvLSTM2D Bidirectional TimeDistributed "
        "Masking Embedding *Embedding StackedRNNCells RepeatVector STFTSpectrogram",
        "attention": "*Attention",
        "several inputs": "Add Average Concatenate Dot Maximum Minimum Multiply Subtract add "
        "average concatenate dot maximum minimum multiply subtract EinsumDense",
        "other convolutions": "Conv2DTranspose Convolution2D* DepthwiseConv2D Separable*2D "
        "Cropping2D UpSampling2D ZeroPadding2D Adaptive*2D SpatialDropout2D",
        "other normalisations": "GroupNormalization LayerNormalization RMSNormalization "
        "SpectralNormalization UnitNormalization",
        "preparation of images": "AugMix AutoContrast CenterCrop Contrast* CutMix Equalization "
        "MixUp MaxNumBoundingBoxes MelSpectrogram Pipeline Rand* Resizing Solarization",
        "preparation of tables and texts": "CategoryEncoding Discretization Hash* IntegerLookup "
        "StringLookup TextVectorization",
        "other frameworks": "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
        "other": "Identity InputSpec Lambda Permute Wrapper deserialize serialize",
    },
    "optimizers": {
        "other rules": "Adadelta Adafactor Ftrl Lamb Lion Muon ScheduleFreeAdamW",
        "wrappers": "LossScaleOptimizer MultiOptimizer OptimizerMap",
    },
    "optimizers.schedules": {},
    "initializers": {"audio": "STFT* stft"},
    "regularizers": {},
    "constraints": {},
    "losses": {
        "segmentation, retrieval, sequences": "CTC ctc Circle circle Dice dice Tversky tversky",
        "noisy labels": "*eneralized*ross*ntropy",
    },
    "metrics": {
        "segmentation": "BinaryIoU IoU OneHot*IoU",
        "correlation": "*oncordance* *earson*",
    },
    "callbacks": {"services": "OrbaxCheckpoint RemoteMonitor"},
    "activations": {"of several arrays, or seldom": "glu sparsemax threshold"},
}
#: Keras 3.15 is what the patterns are of: what later ones add is not looked at.
KNOWN = tuple(map(int, keras.__version__.split(".")[:2])) <= (3, 15)


def found(package: ModuleType, path: str) -> set[str]:
    for part in path.split("."):
        package = getattr(package, part)
    return {
        name
        for name in dir(package)
        if not name.startswith("_") and not inspect.ismodule(getattr(package, name))
    }


@pytest.mark.parametrize("path", LEFT_OUT)
def test_names(path: str) -> None:
    patterns = " ".join(LEFT_OUT[path].values()).split()
    ours, theirs = found(fusednn, path), found(keras, path)
    if KNOWN:
        missing = {n for n in theirs - ours if not any(fnmatchcase(n, p) for p in patterns)}
        assert not missing
    # A name that came to be here is no longer listed.
    assert not [n for n in ours & theirs if any(fnmatchcase(n, p) for p in patterns)]


def test_names_of_keras_itself() -> None:
    names = "Initializer Input Layer Loss Metric Model Optimizer Regularizer Sequential Variable"
    for name in names.split():
        assert hasattr(keras, name), name
        assert isinstance(getattr(fusednn, name), type) or name == "Input"
    assert fusednn.Loss is fusednn.losses.Loss


#: Names of functions in `tf.keras` and Keras 2 that Keras 3 keeps as strings alone.
SHORT = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "kld": "kl_divergence",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
}


@pytest.mark.parametrize("name", [*SHORT, "MSE", "MAE", "MAPE", "MSLE", "KLD"])
def test_short_names(name: str) -> None:
    long = SHORT[name.lower()]
    for kind in ("losses", "metrics"):
        ours = getattr(fusednn, kind)
        assert getattr(ours, name) is getattr(ours, long)
    loss = fusednn.losses.get(fusednn.losses.mse)
    assert type(loss) is fusednn.losses.MeanSquaredError
    if name.lower() not in ("kullback_leibler_divergence", "logcosh"):
        assert keras.losses.get(name.lower()).__name__ == long
