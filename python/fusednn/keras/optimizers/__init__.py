"""SGD, Adagrad, RMSprop, Adam and AdamW of Keras 3, one kernel call for a step of all variables."""

from fusednn.keras.optimizers.adagrad import Adagrad
from fusednn.keras.optimizers.adam import Adam, AdamW
from fusednn.keras.optimizers.rmsprop import RMSprop
from fusednn.keras.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]
