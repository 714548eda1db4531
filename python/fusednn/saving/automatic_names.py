"""Names that layers were given by nobody: their class in snake case, and a number."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from fusednn._serialization import snake_case


def automatic_names(layers: Iterable[Any]) -> set[str]:
    """Return what the automatic names of the layers' classes begin with, of nested models too."""
    names: set[str] = set()
    for layer in layers:
        names.add(snake_case(type(layer).__name__))
        names |= automatic_names(getattr(layer, "layers", ()))
    return names


def without_numbers(paths: Iterable[str], automatic: Set[str]) -> dict[str, str]:
    """Map each path to the one that it has where the numbers of each class begin with 0.

    Parameters
    ----------
    paths : iterable of str
        Names of layers, outermost first, then that of the variable, with slashes between.
    automatic : set of str
        As `automatic_names` returns; other names stay.
    """
    return {
        "/".join(path): "/".join(plain)
        for path, plain in _plain([tuple(path.split("/")) for path in paths], automatic)
    }


def _plain(
    paths: list[tuple[str, ...]], automatic: Set[str]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    inner: dict[str, list[tuple[str, ...]]] = {}
    for first, *rest in paths:
        inner.setdefault(first, []).append(tuple(rest))
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name in inner:
        base, _, number = name.rpartition("_")
        if name in automatic:
            numbered.setdefault(name, []).append((0, name))
        elif base in automatic and number.isdecimal():
            numbered.setdefault(base, []).append((int(number), name))
    plain = {name: name for name in inner}
    for base, own in numbered.items():
        for place, (_, name) in enumerate(sorted(own)):
            plain[name] = f"{base}_{place}"
    return [
        ((name, *path), (plain[name], *plain_path))
        for name, rests in inner.items()
        for path, plain_path in ([((), ())] if rests == [()] else _plain(rests, automatic))
    ]
