"""Results as a picture: bars of each contender's time, in units of the roof."""

from __future__ import annotations

import os
from typing import Any

from fusednn.benchmarks.optimizers import OPTIMIZERS
from fusednn.benchmarks.peers import PEERS
from fusednn.benchmarks.results import CaseResult, Results

_COLOURS = {
    "fusednn": "#b2182b",
    "fusednn-fresh": "#ef8a62",
    "fusednn-plain": "#fddbc7",
    "fusednn-apart": "#f4a582",
    "fusednn-torch": "#d6604d",
    "numpy": "#4d4d4d",
    "torch": "#2166ac",
    "torch-aten": "#4393c3",
    "torch-foreach": "#67a9cf",
    "torch-fused": "#92c5de",
    "torch-compile": "#053061",
    "onednn": "#c2a5cf",
    "jax": "#1b7837",
    "keras-torch": "#a6dba0",
    "keras-jax": "#5aae61",
    "sklearn": "#bf812d",
}
_PANEL_INCHES = (15.0, 2.7)
#: Labels beside each other; more are turned.
_MOST_UPRIGHT = 9


def panels(results: Results) -> dict[str, list[CaseResult]]:
    """Return what the picture shows, in groups of like cases.

    All threads and float32 or, where the run has none of that, the first dtype that it has.
    """
    shown = [case for case in results.cases if case.ours and case.roof]
    threads = max((case.threads for case in shown), default=0)
    shown = [case for case in shown if case.threads == threads]
    dtypes = [case.dtype for case in shown]
    dtype = "float32" if "float32" in dtypes else next(iter(dtypes), "")
    groups: dict[str, list[CaseResult]] = {}
    for case in shown:
        if case.dtype == dtype:
            title = f"{case.family}: {case.variant}"
            if case.family == "optimizer":
                kind = "option" if OPTIMIZERS[case.variant].plain else "optimizer"
                title = f"{kind}: {case.subject}"
            title = title.replace("_", " ")
            groups.setdefault(title, []).append(case)
    return groups


def draw(results: Results, path: str | os.PathLike[str]) -> None:
    """Draw and write the picture.

    Raises
    ------
    ValueError
        If there is nothing to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = panels(results)
    if not groups:
        raise ValueError("there is nothing to draw: no case was timed beside a roof")
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width, height * len(groups) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = [peer.name for peer in PEERS if not peer.is_roof]
    axes_column = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    shown: dict[str, Any] = {}
    for axes, (title, cases) in zip(axes_column, groups.items(), strict=True):
        for position, case in enumerate(cases):
            assert case.roof is not None
            present = [name for name in names if _timed(case, name)]
            step = 0.84 / max(len(present), 1)
            for i, name in enumerate(present):
                ratio = case.contenders[name].seconds / case.roof.seconds
                at = position - 0.42 + (i + 0.5) * step
                # From the roof upwards; what is faster than the roof hangs below it.
                bars = axes.bar(at, ratio - 1, step * 0.95, bottom=1, color=_COLOURS[name])
                shown.setdefault(name, bars)
        axes.set_yscale("log")
        axes.axhline(1, color="black", linewidth=1)
        axes.set_xticks(range(len(cases)))
        labels = [c.variant if c.family == "optimizer" else c.subject for c in cases]
        turned = {"rotation": 20, "ha": "right"} if len(labels) > _MOST_UPRIGHT else {}
        axes.set_xticklabels(labels, fontsize=8, **turned)
        axes.set_ylabel("time / roof")
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    ordered = [name for name in names if name in shown]
    figure.legend([shown[n] for n in ordered], ordered, loc="outside upper center", ncols=8)
    figure.savefig(path, dpi=80)


def _timed(case: CaseResult, name: str) -> bool:
    timing = case.contenders.get(name)
    return timing is not None and timing.timed
