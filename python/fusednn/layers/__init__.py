"""Layers of a `Sequential`, with Keras' names, defaults and semantics."""

from fusednn.layers.activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from fusednn.layers.activity import ActivityRegularization
from fusednn.layers.batch_normalization import BatchNormalization
from fusednn.layers.convolution import Conv2D
from fusednn.layers.dense import Dense
from fusednn.layers.dense_transpose import DenseTranspose
from fusednn.layers.dropout import Dropout
from fusednn.layers.flatten import Flatten
from fusednn.layers.global_pooling import (
    GlobalAveragePooling2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GlobalMaxPooling2D,
)
from fusednn.layers.input import Input, InputLayer
from fusednn.layers.layer import Layer
from fusednn.layers.noise import AlphaDropout, GaussianDropout, GaussianNoise
from fusednn.layers.pooling import (
    AveragePooling2D,
    AvgPool2D,
    MaxPool2D,
    MaxPooling2D,
)
from fusednn.layers.prelu import PReLU
from fusednn.layers.rescaling import Normalization, Rescaling
from fusednn.layers.reshape import Reshape

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "AlphaDropout",
    "AveragePooling2D",
    "AvgPool2D",
    "BatchNormalization",
    "Conv2D",
    "Dense",
    "DenseTranspose",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GlobalMaxPooling2D",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "MaxPooling2D",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
]
