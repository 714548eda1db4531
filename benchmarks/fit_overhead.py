"""What `fit` costs beside its training steps: shuffling, metrics, callbacks and the progress bar.

``OPENBLAS_NUM_THREADS=1 FUSEDNN_NUM_THREADS=1 python benchmarks/fit_overhead.py`` prints, for each
network of the training-step benchmarks, the time of a step by `train_on_batch`, and of one in
`fit`: bare (shuffled batches alone), and with all that a user switches on: an accuracy, a progress
bar, and callbacks that look at the loss after each batch and write a line after each epoch. It is
the processor's time of the one thread, so that other programs count little. Forms take turns; each
figure is the median of the epochs, and the last columns the medians of the ratios within a turn.
`train_on_batch` has one batch, which stays in the caches; `fit` gathers each from a large array.
``--max-ratio 1.05`` exits with 1 where a network's last column but one is larger.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fusednn import Input, Sequential, callbacks, layers, losses, optimizers
from fusednn.benchmarks.shapes import MODELS, full_size

SECONDS = 0.25  # of an epoch, about


def network(widths: tuple[int, ...], metrics: list[str]) -> Sequential:
    model = Sequential([Input((widths[0],))])
    for width in widths[1:-1]:
        model.add(layers.Dense(width))
        model.add(layers.BatchNormalization())
        model.add(layers.LeakyReLU(0.01))
    model.add(layers.Dense(widths[-1]))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(1e-4), loss, metrics=metrics)
    return model


class LooksAtLosses(callbacks.Callback):
    """What a user writes: a list of losses, batch by batch."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.losses.append((logs or {})["loss"])


def forms(name: str, folder: Path) -> tuple[int, dict[str, Callable[[], None]]]:
    """Return the number of steps of an epoch, and what runs one of each form."""
    widths, batch = MODELS[name].widths, MODELS[name].batch
    rng = np.random.default_rng(0)

    def data(steps: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((steps * batch, widths[0]), dtype=np.float32)
        return x, rng.integers(0, widths[-1], steps * batch)

    stepping, bare, full = (network(widths, m) for m in ([], [], ["accuracy"]))
    x, y = data(1)
    for _ in range(3):
        stepping.train_on_batch(x, y)
    start = time.thread_time()
    for _ in range(10):
        stepping.train_on_batch(x, y)
    steps = max(20, round(SECONDS * 10 / (time.thread_time() - start)))
    x, y = data(steps)
    first = x[:batch].copy(), y[:batch].copy()
    watchers = [
        LooksAtLosses(),
        callbacks.EarlyStopping("loss", patience=10_000),
        callbacks.ReduceLROnPlateau("loss", patience=10_000),
        callbacks.CSVLogger(folder / "log.csv", append=True),
        callbacks.TerminateOnNaN(),
    ]

    def run_steps() -> None:
        for _ in range(steps):
            stepping.train_on_batch(*first)

    return steps, {
        "train_on_batch": run_steps,
        "fit": lambda: void(bare.fit(x, y, batch, verbose=0)),
        "fit, all on": lambda: void(full.fit(x, y, batch, verbose=1, callbacks=list(watchers))),
    }


def void(result: object) -> None:
    """Drop a result."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=full_size(MODELS))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--max-ratio", type=float, help="of a step with all on to one of bare fit")
    options = parser.parse_args()
    largest = 0.0
    print(
        "| network | train_on_batch, ms | fit, ms | all on, ms | all on / fit | / train_on_batch |"
    )
    print("|---|---|---|---|---|---|")
    for name in options.models:
        times: dict[str, list[float]] = {}
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.devnull, "w") as nowhere,  # where the progress bar is drawn
            contextlib.redirect_stderr(nowhere),
        ):
            steps, runs = forms(name, Path(folder))
            for run in runs.values():
                run()
            for _ in range(options.turns):
                for form, run in runs.items():
                    start = time.thread_time()
                    run()
                    times.setdefault(form, []).append((time.thread_time() - start) / steps)
        medians = " | ".join(f"{1e3 * statistics.median(t):.3f}" for t in times.values())
        full = times["fit, all on"]
        to_fit, to_step = (
            statistics.median(b / a for a, b in zip(times[form], full, strict=True))
            for form in ("fit", "train_on_batch")
        )
        print(f"| {name} | {medians} | {to_fit:.3f} | {to_step:.3f} |")
        sys.stdout.flush()
        largest = max(largest, to_fit)
    return 1 if options.max_ratio is not None and largest > options.max_ratio else 0


if __name__ == "__main__":
    sys.exit(main())
