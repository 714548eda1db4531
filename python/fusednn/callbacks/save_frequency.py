"""When callbacks that write files are to write the next one."""

from __future__ import annotations

from fusednn._arguments import check_count


class SaveFrequency:
    """Base of callbacks whose `save_freq` is ``"epoch"`` or a number of batches."""

    save_freq: str | int
    _batches: int  # since the latest file
    _seen: int  # of the epoch

    def _set_save_freq(self, save_freq: str | int) -> None:
        self.save_freq = save_freq if save_freq == "epoch" else check_count("save_freq", save_freq)
        self._batches = 0
        self._seen = 0

    def _is_due(self, batch: int) -> bool:
        """Count the batches up to this one; return whether they were enough for a file."""
        if self.save_freq == "epoch":
            return False
        self._batches += batch + 1 - self._seen  # more than 1 with `steps_per_execution`
        self._seen = batch + 1
        due = self._batches >= int(self.save_freq)
        if due:
            self._batches = 0
        return due
