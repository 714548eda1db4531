"""Optimizers of ``torch.optim`` whose step is one kernel call for each parameter group.

Each is a subclass of PyTorch's of the same name, takes its arguments, keeps its states under its
names, and gives its results but for rounding; a saved ``state_dict`` loads both ways. Beside
PyTorch's options there are ``max_norm``, clipping by the global norm within the step, and ``ema``,
moving averages of the parameters.
"""

from fusednn.torch.optim.adagrad import Adagrad
from fusednn.torch.optim.adam import Adam, AdamW
from fusednn.torch.optim.adamax import Adamax
from fusednn.torch.optim.rmsprop import RMSprop
from fusednn.torch.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Adamax", "RMSprop"]
