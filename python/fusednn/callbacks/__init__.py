"""What may watch and steer `Sequential.fit`: Keras' callbacks, with Keras' hooks and logs."""

from fusednn.callbacks.callback import Callback
from fusednn.callbacks.callback_list import CallbackList
from fusednn.callbacks.early_stopping import EarlyStopping
from fusednn.callbacks.history import History
from fusednn.callbacks.lambda_callback import LambdaCallback
from fusednn.callbacks.progress import ProgbarLogger
from fusednn.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = [
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "ProgbarLogger",
    "TerminateOnNaN",
]
