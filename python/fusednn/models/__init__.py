"""Models: `Sequential`, copies and files of it, and the search for a learning rate."""

from typing import TYPE_CHECKING, Any

from fusednn.models.clone import clone_model
from fusednn.models.folding import fold_batch_norm
from fusednn.models.learning_rate_finder import LearningRateTest, find_learning_rate
from fusednn.models.model import Model
from fusednn.models.population import recalibrate_batch_norm
from fusednn.models.pretraining import pretrain_autoencoders
from fusednn.models.sequential import Sequential

if TYPE_CHECKING:
    from fusednn.saving.model_config import model_from_json
    from fusednn.saving.model_file import load_model, save_model

__all__ = [
    "LearningRateTest",
    "Model",
    "Sequential",
    "clone_model",
    "find_learning_rate",
    "fold_batch_norm",
    "load_model",
    "model_from_json",
    "pretrain_autoencoders",
    "recalibrate_batch_norm",
    "save_model",
]


def __getattr__(name: str) -> Any:
    # What reads and writes files is loaded when first used.
    if name in ("load_model", "model_from_json", "save_model"):
        from fusednn.saving import model_config, model_file

        return getattr(model_config if name == "model_from_json" else model_file, name)
    raise AttributeError(f"module 'fusednn.models' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
