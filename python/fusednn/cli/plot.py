"""Learning curves as an image, drawn without a display."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path


def check(path: str | os.PathLike[str], option: str = "--plot") -> None:
    """Find out, before the work, what would keep its image from being written.

    Parameters
    ----------
    path
        Of the image.
    option
        Whose argument it is.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is not installed.
    ValueError
        If the file's ending names no image format, or its folder does not exist.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            f"{option} draws with matplotlib, which is not installed: pip install matplotlib",
            name="matplotlib",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    formats = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in formats:
        raise ValueError(f"{path}: the plot's ending must be one of {', '.join(sorted(formats))}")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the plot's folder must exist")


def save(history: Mapping[str, Sequence[float]], path: str | os.PathLike[str]) -> None:
    """Draw loss and accuracy over the epochs, of training and test set, and write the image.

    Parameters
    ----------
    history
        What `fit` recorded: ``loss``, ``accuracy``, and for the test set ``val_loss``,
        ``val_accuracy``.
    path
        Where to; the ending chooses the format.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, key in (("training", quantity), ("test", f"val_{quantity}")):
            axes.plot(range(1, len(history[key]) + 1), history[key], label=name, marker=".")
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
