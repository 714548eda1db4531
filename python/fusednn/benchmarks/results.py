"""What a run found, as plain data that JSON keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

#: Of the file; raised when its meaning changes.
FORMAT = 1
#: What is as many times as fast as the roof, beyond both spreads, is named: the roof is too low.
ABOVE_ROOF = 1.05
#: CPUs' worth of other programs from which what was timed beside them is marked.
BUSY = 0.2
#: "+-" from which a time is marked as uncertain.
UNCERTAIN = 0.1


@dataclass
class Timing:
    """What became of one contender in one case.

    Attributes
    ----------
    status : str
        "timed"; "right" (checked only); "wrong": the answer differs; "absent": the library does
        not have it; "failed": an error.
    reason : str
        Why it was not timed.
    seconds, low, high : float
        Of one run: the median over turns, and the quartiles. 0 where not timed.
    turns : int
        That the median is over.
    reuses : bool
        Whether results go into buffers that exist.
    note : str
    checked : bool
        Whether the answer was compared; what does other work cannot be, and is no best peer.
    """

    status: str
    reason: str = ""
    seconds: float = 0.0
    low: float = 0.0
    high: float = 0.0
    turns: int = 0
    reuses: bool = False
    note: str = ""
    checked: bool = True

    @property
    def timed(self) -> bool:
        """Whether there are times."""
        return self.status == "timed"

    @property
    def spread(self) -> float:
        """Distance of the quartiles, relative to the median."""
        return (self.high - self.low) / self.seconds if self.seconds else 0.0

    @property
    def uncertain(self) -> bool:
        """Whether the turns differ by more than a ratio of this time may be trusted with."""
        return self.spread / 2 > UNCERTAIN


@dataclass
class CaseResult:
    """One case with one number of threads: its contenders, the roof among them.

    Attributes
    ----------
    name : str
    threads : int
    traffic : int
    contenders : dict of str to Timing
    others : float
        How many CPUs' time other programs took meanwhile: libraries with several threads, of which
        one does not get to run, may all be slow in every turn, and differ by little.
    disturbed : int
        Rounds of turns that were not counted: the roof took another time in them.
    seconds : float
        That the case took as a whole.
    """

    name: str
    threads: int
    traffic: int
    contenders: dict[str, Timing] = field(default_factory=dict)
    disturbed: int = 0
    others: float = 0.0
    seconds: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether other programs took so much of the processors that its times mean little."""
        return self.others > BUSY

    @property
    def family(self) -> str:
        """First part of the name."""
        return self.name.split("/")[0]

    @property
    def variant(self) -> str:
        """Second part of the name."""
        return self.name.split("/")[1]

    @property
    def subject(self) -> str:
        """Third part of the name."""
        return self.name.split("/")[2]

    @property
    def dtype(self) -> str:
        """Last part of the name."""
        return self.name.split("/")[3]

    @property
    def roof(self) -> Timing | None:
        """The fastest pass of the same traffic."""
        roofs = [t for name, t in self.contenders.items() if name.startswith("roof") and t.timed]
        return min(roofs, key=lambda t: t.seconds, default=None)

    @property
    def ours(self) -> Timing | None:
        """What fusednn took with reused buffers."""
        timing = self.contenders.get("fusednn")
        return timing if timing is not None and timing.timed else None

    def peers(self) -> Iterator[tuple[str, Timing]]:
        """Yield what is neither the roof nor fusednn, and was timed."""
        for name, timing in self.contenders.items():
            if timing.timed and not name.startswith(("roof", "fusednn")):
                yield name, timing

    def best_peer(self) -> tuple[str, Timing] | None:
        """Return the fastest peer that does the same work."""
        same = (peer for peer in self.peers() if peer[1].checked)
        return min(same, key=lambda peer: peer[1].seconds, default=None)

    def above_roof(self) -> Iterator[tuple[str, float]]:
        """Yield what was faster than the roof by more than the noise, and how many times."""
        roof = self.roof
        for name, timing in self.contenders.items():
            if roof is not None and timing.timed and not name.startswith("roof"):
                ratio = roof.seconds / timing.seconds
                if ratio > ABOVE_ROOF + (roof.spread + timing.spread) / 2:
                    yield name, ratio


def _short(case: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a contender's entry holds only as its default."""
    usual = {f.name: f.default for f in fields(Timing)}
    short = {
        name: {key: value for key, value in timing.items() if value != usual[key]}
        for name, timing in case["contenders"].items()
    }
    return {**case, "contenders": short}


@dataclass
class Bandwidth:
    """What memory can do: one pass over arrays of one total size."""

    pass_name: str
    level: str
    size: int
    threads: int
    gigabytes_per_second: float


@dataclass
class Results:
    """A whole run, or what there is of one: `problems` says what was lost besides contenders."""

    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str
    date: str
    settings: dict[str, Any]
    seconds: float = 0.0
    bandwidths: list[Bandwidth] = field(default_factory=list)
    cases: list[CaseResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the results as JSON: the whole file or, if that fails, nothing."""
        data = {"format": FORMAT, **asdict(self)}
        cases = [_short(case) for case in data.pop("cases")]
        # A case a line: a run is some thousand times.
        text = json.dumps(data, indent=1, allow_nan=False).removesuffix("\n}")
        lines = ",\n".join(f"  {json.dumps(case, allow_nan=False)}" for case in cases)
        text += f',\n "cases": [\n{lines}\n ]\n}}'
        unfinished = Path(f"{os.fspath(path)}.unfinished")
        unfinished.write_text(text + "\n")
        unfinished.replace(path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Results:
        """Read what `write` wrote.

        Raises
        ------
        ValueError
            If the file is no such JSON.
        """
        try:
            data = json.loads(Path(path).read_text())
            if data.pop("format") != FORMAT:
                raise ValueError("another format")
            bandwidths = [Bandwidth(**entry) for entry in data.pop("bandwidths")]
            cases = [
                CaseResult(
                    **{
                        **entry,
                        "contenders": {n: Timing(**t) for n, t in entry["contenders"].items()},
                    }
                )
                for entry in data.pop("cases")
            ]
            return cls(**data, bandwidths=bandwidths, cases=cases)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)} does not hold results of a benchmark") from error
