"""Files that Keras reads and writes; nothing in them is executed, and saving is atomic."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn.saving.model_file import load_model, save_model
    from fusednn.saving.model_weights import load_weights, save_weights
    from fusednn.saving.onnx_file import export_onnx

__all__ = ["export_onnx", "load_model", "load_weights", "save_model", "save_weights"]

# What reads and writes files is loaded when first used.
_HOMES = {
    "export_onnx": "onnx_file",
    "load_model": "model_file",
    "load_weights": "model_weights",
    "save_model": "model_file",
    "save_weights": "model_weights",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fusednn.saving' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"fusednn.saving.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
