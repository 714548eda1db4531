"""What other programs take of the processors while something is timed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
#: Columns of a line of ``/proc/stat`` in which nothing runs: idle, and waiting for a disk.
_IDLE = (3, 4)


class Others:
    """Counts from its making on how busy the CPUs of this process are with other programs.

    Parameters
    ----------
    own : collection of int
        The processes, this one aside, that are none of the others.
    proc : Path
        Where Linux tells; elsewhere nobody is seen.
    """

    def __init__(self, own: Collection[int], proc: Path = Path("/proc")) -> None:
        self._own = {*own, os.getpid()}
        self._proc = proc
        self._begun = time.monotonic()
        self._before = self._ticks()

    def cpus(self) -> float:
        """Return how many CPUs they took on average; 0 where it cannot be known."""
        after, seconds = self._ticks(), time.monotonic() - self._begun
        if after is None or self._before is None or seconds <= 0:
            return 0.0
        return max(0.0, round((after - self._before) / _TICKS / seconds, 2))

    def _ticks(self) -> int | None:
        """Return the ticks of others so far; None where a process has ended or nothing is told."""
        cpus = {f"cpu{i}" for i in os.sched_getaffinity(0)}
        try:
            lines = [line.split() for line in (self._proc / "stat").read_text().splitlines()]
            # User and system time follow the eleventh number behind the name in parentheses.
            stats = [(self._proc / str(pid) / "stat").read_text() for pid in self._own]
        except OSError:
            return None
        busy = sum(
            sum(int(n) for i, n in enumerate(line[1:9]) if i not in _IDLE)
            for line in lines
            if line[0] in cpus
        )
        own = sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
        return busy - own
