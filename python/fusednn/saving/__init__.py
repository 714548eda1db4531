"""Files that Keras reads and writes; nothing in them is executed, and saving is atomic."""

from fusednn.saving.model_file import load_model, load_weights, save_model, save_weights

__all__ = ["load_model", "load_weights", "save_model", "save_weights"]
