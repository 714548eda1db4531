"""What may watch and steer `Sequential.fit`: Keras' callbacks, with Keras' hooks and logs."""

from typing import TYPE_CHECKING, Any

from fusednn.callbacks.averages import SwapEMAWeights
from fusednn.callbacks.callback import Callback
from fusednn.callbacks.callback_list import CallbackList
from fusednn.callbacks.early_stopping import EarlyStopping
from fusednn.callbacks.history import History
from fusednn.callbacks.lambda_callback import LambdaCallback
from fusednn.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from fusednn.callbacks.progress import ProgbarLogger
from fusednn.callbacks.terminate_on_nan import TerminateOnNaN

if TYPE_CHECKING:
    from fusednn.callbacks.backup import BackupAndRestore
    from fusednn.callbacks.csv_logger import CSVLogger
    from fusednn.callbacks.model_checkpoint import ModelCheckpoint
    from fusednn.callbacks.tensor_board import TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
]

# What writes files is loaded when first used.
_HOMES = {
    "BackupAndRestore": "backup",
    "CSVLogger": "csv_logger",
    "ModelCheckpoint": "model_checkpoint",
    "TensorBoard": "tensor_board",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fusednn.callbacks' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"fusednn.callbacks.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
