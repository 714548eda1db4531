"""Layers of a `Sequential`, with Keras' names, defaults and semantics."""

from fusednn.layers.activation import ELU, Activation, LeakyReLU, ReLU, Softmax
from fusednn.layers.activity import ActivityRegularization
from fusednn.layers.batch_normalization import BatchNormalization
from fusednn.layers.dense import Dense
from fusednn.layers.dropout import Dropout
from fusednn.layers.flatten import Flatten
from fusednn.layers.input import Input, InputLayer
from fusednn.layers.layer import Layer
from fusednn.layers.prelu import PReLU

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "Softmax",
]
