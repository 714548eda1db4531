"""Models as scikit-learn estimators, with the names and arguments of ``keras.wrappers``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn.wrappers.estimators import SKLearnClassifier, SKLearnRegressor

__all__ = ["SKLearnClassifier", "SKLearnRegressor"]


def __getattr__(name: str) -> Any:
    # scikit-learn is loaded when first used.
    if name not in __all__:
        raise AttributeError(f"module 'fusednn.wrappers' has no attribute '{name}'")
    from fusednn.wrappers import estimators

    return getattr(estimators, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
