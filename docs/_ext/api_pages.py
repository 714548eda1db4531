"""One page for each public module, with all that its ``__all__`` names.

A name that another listed module holds, too, is described where it lives and linked elsewhere; a
module whose package is not installed (PyTorch, JAX, Keras) has no page. Of a class' bases, those
without a place on any page are part of it: their methods are described with the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_logger = logging.getLogger(__name__)

#: Groups of modules, in the order in which the pages are listed.
MODULES = {
    "Models": (
        "fusednn",
        "fusednn.models",
        "fusednn.layers",
        "fusednn.activations",
        "fusednn.initializers",
        "fusednn.regularizers",
        "fusednn.constraints",
        "fusednn.optimizers",
        "fusednn.optimizers.schedules",
        "fusednn.losses",
        "fusednn.metrics",
        "fusednn.callbacks",
        "fusednn.diagnostics",
        "fusednn.data",
        "fusednn.datasets",
        "fusednn.datasets.breast_cancer",
        "fusednn.datasets.california_housing",
        "fusednn.datasets.cifar10",
        "fusednn.datasets.diabetes",
        "fusednn.datasets.digits",
        "fusednn.datasets.fashion_mnist",
        "fusednn.datasets.mnist",
        "fusednn.datasets.wine",
        "fusednn.saving",
        "fusednn.wrappers",
        "fusednn.backend",
        "fusednn.utils",
    ),
    "Kernels": ("fusednn.ops",),
    "Other frameworks": (
        "fusednn.torch",
        "fusednn.torch.functional",
        "fusednn.torch.optim",
        "fusednn.jax",
        "fusednn.jax.optim",
        "fusednn.keras",
        "fusednn.keras.optimizers",
    ),
}
ADAPTERS = ("torch", "jax", "keras")


def importable(name: str) -> ModuleType | None:
    """Return a module, or None where the framework that it adapts is not installed."""
    adapted = name.split(".")[1] if "." in name else ""
    if adapted in ADAPTERS and find_spec(adapted) is None:
        return None
    return import_module(name)


def public_names(module: ModuleType) -> list[str]:
    """Return what the module offers, modules excepted: classes first, other names of them last."""
    own = [
        x
        for x, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__
    ]
    listed = getattr(module, "__all__", [x for x in own if not x.startswith("_")])
    names = [x for x in listed if not inspect.ismodule(getattr(module, x))]

    def rank(name: str) -> tuple[bool, bool]:
        value = getattr(module, name)
        return not inspect.isclass(value), getattr(value, "__name__", name) != name

    return sorted(names, key=rank)


def described_elsewhere(cls: type, public: Collection[int]) -> list[str]:
    """Return the names of those bases whose methods are not described with `cls`.

    They are bases that are `public`, by id, those of other packages, and the bases of both.
    """
    elsewhere = {
        ancestor.__name__
        for base in cls.__mro__[1:]
        if id(base) in public or not base.__module__.startswith("fusednn")
        for ancestor in base.__mro__
    }
    return sorted(elsewhere)


def page(name: str, module: ModuleType, homes: dict[int, str], public: Collection[int] = ()) -> str:
    """Return the page of a module.

    `homes` tells where the objects of the pages before it are; `public` are ids of all objects that
    have a place on some page.
    """
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :no-members:", ""]
    for each in public_names(module):
        value, full = getattr(module, each), f"{name}.{each}"
        home = homes.get(id(value)) if callable(value) else None
        if home is not None:
            own = f"``{each}``: another name of" if home.startswith(f"{name}.") else f"``{each}``:"
            lines += [f"{own} :py:obj:`{home}`.", ""]
            continue
        if callable(value):
            homes[id(value)] = full
        if inspect.isclass(value):
            stop = ", ".join(described_elsewhere(value, public))
            lines += [f".. autoclass:: {full}", f"   :inherited-members: {stop}", ""]
        elif inspect.isroutine(value):
            lines += [f".. autofunction:: {full}", ""]
        else:
            lines += [f".. py:data:: {full}", "", *described(value), ""]
    return "\n".join(lines)


def described(value: Any) -> list[str]:
    """Return lines on an object that is neither class nor function."""
    if callable(value):
        first = (inspect.getdoc(type(value)) or "").split("\n")[0]
        return [f"   An instance of :py:obj:`{type(value).__name__}`: {first}"]
    return [f"   ``{value!r}``"]


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir, "api")
    homes: dict[int, str] = {}
    index = ["Reference", "=========", ""]
    modules: dict[str, ModuleType] = {}
    # A name is described in the module below, not where the package lists it again.
    for name in sorted(
        (m for group in MODULES.values() for m in group), key=lambda m: -m.count(".")
    ):
        module = importable(name)
        if module is None:
            _logger.info("no page for %s, which cannot be imported here", name)
        else:
            modules[name] = module
    public = {id(getattr(m, each)) for m in modules.values() for each in public_names(m)}
    pages = {name: page(name, module, homes, public) for name, module in modules.items()}
    for group, names in MODULES.items():
        found = [name for name in names if name in pages]
        if found:
            index += [f".. toctree::\n   :caption: {group}\n   :maxdepth: 1\n"]
            index += [f"   {name}" for name in found] + [""]
    pages["index"] = "\n".join(index)
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _whole_sentence(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    # Napoleon takes what stands before the first colon for a type.
    if what in ("attribute", "data", "property") and lines and ":" in lines[0]:
        lines[0] = f": {lines[0]}"


def _left_out(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    # The class's own text names the fields of a tuple; "Alias for field number 0" says nothing.
    if type(obj).__name__ == "_tuplegetter":
        return True
    # scikit-learn gives its estimators methods, documented by references to its own site.
    return True if str(getattr(obj, "__module__", "")).startswith("sklearn.") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("builder-inited", _write)
    app.connect("autodoc-process-docstring", _whole_sentence, priority=400)
    app.connect("autodoc-skip-member", _left_out)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
