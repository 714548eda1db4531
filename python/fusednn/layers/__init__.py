"""Layers of a `Sequential`, with Keras' names, defaults and semantics."""

from fusednn.layers.activation import Activation, LeakyReLU, ReLU
from fusednn.layers.batch_normalization import BatchNormalization
from fusednn.layers.dense import Dense
from fusednn.layers.dropout import Dropout
from fusednn.layers.flatten import Flatten
from fusednn.layers.input import Input, InputLayer
from fusednn.layers.layer import Layer

__all__ = [
    "Activation",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Flatten",
    "Input",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "ReLU",
]
