"""Medians and spreads of repeated times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Median and quartiles."""

    median: float
    low: float
    high: float


def summarise(turns: Sequence[Sequence[float]]) -> Summary:
    """Summarise turns by the median of each: one disturbed turn moves little.

    Parameters
    ----------
    turns : sequence of sequence of float
        The times of each turn; none may be empty.
    """
    medians = [float(np.median(turn)) for turn in turns]
    low, median, high = np.percentile(medians, [25, 50, 75])
    return Summary(float(median), float(low), float(high))


def undisturbed(probe: Mapping[int, float], tolerance: float = 0.25) -> set[int]:
    """Return the rounds in which the probe took about as long as usual.

    Parameters
    ----------
    probe : mapping of int to float
        Seconds of one and the same work in each round.
    tolerance : float
        How much they may differ from their median, relative to it.
    """
    usual = float(np.median(list(probe.values()))) if probe else 0.0
    return {i for i, seconds in probe.items() if abs(seconds - usual) <= tolerance * usual}


@dataclass(frozen=True)
class Pace:
    """How a contender that takes `seconds` per run is timed within a budget.

    Attributes
    ----------
    batch : int
        Runs that are timed together.
    calls : int
        Times taken in a turn.
    turns : int
    """

    batch: int
    calls: int
    turns: int

    @classmethod
    def of(cls, seconds: float, turn: float, budget: float, turns: tuple[int, int]) -> Pace:
        """Choose: batches of a millisecond or more, turns of `turn` seconds, then `budget`."""
        seconds = max(seconds, 1e-8)
        batch = max(1, round(0.001 / seconds))
        calls = max(1, min(50, round(turn / (batch * seconds))))
        fitting = int(budget / (calls * batch * seconds))
        return cls(batch, calls, min(max(fitting, turns[0]), turns[1]))
