"""Files that Keras reads and writes; nothing in them is executed, and saving is atomic."""

from fusednn.saving.model_file import load_model, save_model
from fusednn.saving.model_weights import load_weights, save_weights
from fusednn.saving.onnx_file import export_onnx

__all__ = ["export_onnx", "load_model", "load_weights", "save_model", "save_weights"]
