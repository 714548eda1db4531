"""Names of layers and models that were given none: ``dense``, ``dense_1``, ... as in Keras."""

from __future__ import annotations

from collections import Counter

from fusednn._serialization import snake_case

_used: Counter[str] = Counter()


def automatic_name(class_name: str) -> str:
    """Next free name for an object of this class in this process."""
    name = snake_case(class_name)
    count = _used[name]
    _used[name] += 1
    return f"{name}_{count}" if count else name


def forget_names() -> None:
    """Count from the start again."""
    _used.clear()
