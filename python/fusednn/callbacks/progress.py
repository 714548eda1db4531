"""The progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from fusednn.callbacks.callback import Callback, Logs


class ProgbarLogger(Callback):
    """Shows progress: ``verbose`` 1 a bar on stderr, 2 a line per epoch on stdout.

    "auto" is 1 where stderr is a terminal or this is a notebook, else 2 in `fit` and 0 in
    `evaluate` and `predict` (Keras always takes 1). In `fit`, validation draws no bar.
    """

    _REFRESH_SECONDS = 0.1  # the numbers beside a bar change at most this often

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._fitting = False

    def _verbose(self) -> int:
        verbose = self.params.get("verbose", 0)
        if verbose == "auto":
            seen_live = sys.stderr.isatty() or "ipykernel" in sys.modules
            return 1 if seen_live else 2 if self._fitting else 0
        return int(verbose)

    def _begin(self, label: str) -> None:
        self._seen = 0
        self._started = self._shown = time.perf_counter()
        if self._verbose() == 1:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self.params.get("steps"), desc=label, unit="batch")

    def _advance(self, batch: int, logs: Logs | None) -> None:
        if self._bar is None:
            return
        now = time.perf_counter()
        if logs and now - self._shown > self._REFRESH_SECONDS:
            self._shown = now
            self._bar.set_postfix_str(_numbers(logs), refresh=False)
        self._bar.update(batch + 1 - self._seen)
        self._seen = batch + 1

    def _finish(self, label: str, logs: Logs | None) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(_numbers(logs or {}))
            self._bar.close()
            self._bar = None
        elif self._verbose() == 2:
            seconds = time.perf_counter() - self._started
            print(" - ".join(filter(None, [label, f"{seconds:.1f}s", _numbers(logs or {}, " - ")])))

    def _epoch_label(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.params['epochs']}"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Note that validation is not to be shown."""
        self._fitting = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Let `evaluate` be shown again."""
        self._fitting = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start a bar."""
        self._begin(self._epoch_label(epoch))

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        self._advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Close the bar, or print the line."""
        self._finish(self._epoch_label(epoch), logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Start a bar."""
        if not self._fitting:
            self._begin("Evaluate")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        if not self._fitting:
            self._advance(batch, logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Close the bar, or print the line."""
        if not self._fitting:
            self._finish("Evaluate", logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Start a bar."""
        self._begin("Predict")

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        self._advance(batch, None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Close the bar, or print the line."""
        self._finish("Predict", None)


def _numbers(logs: Mapping[str, Any], separator: str = ", ") -> str:
    # Of an array the mean, as Keras does.
    return separator.join(f"{name}: {np.mean(value):.4g}" for name, value in logs.items())
