"""What a case is, and how one is run: each contender's answer checked, then timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from clock import Clock, Work

#: What a contender prepares for one set of arrays: the work, and what returns its results after it.
Prepared = tuple[Work, Callable[[], list[Any]]]


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work; `prepare` may raise `MissingError` or ImportError."""

    name: str
    prepare: Callable[[int], Prepared]
    #: Bytes that it moves at least, where that differs from the case's.
    moves: int | None = None


class MissingError(Exception):
    """Why a contender cannot take part here."""


@dataclass(frozen=True)
class Case:
    """The same work for all contenders.

    `bytes_bound` are those that must move: each input read once, each output written once.
    """

    name: str
    bytes_bound: int
    bytes_of_a_set: int
    contenders: tuple[Contender, ...]
    #: Of results; None where contenders compute different things.
    tolerance: float | None


@dataclass
class Result:
    """A case's times by contender, in seconds, and who did not take part, and why."""

    case: str
    bytes_bound: int
    times: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def is_doubtful(self) -> bool:
        """Whether fusednn failed, or nobody computes what it does."""
        wrong = any(why.startswith("wrong") for why in self.absent.values())
        return any("fusednn" in name for name in self.absent) or (wrong and len(self.times) < 2)


def _differs(torch: Any, ours: Iterable[Any], theirs: Iterable[Any], tolerance: float) -> str:
    """Return how far apart results are, in units of their largest value; "" where near enough."""
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        wide, other = a.double().reshape(-1), b.double().reshape(-1)
        scale = float(other.abs().max()) or 1.0
        error = float((wide - other).abs().max()) / scale
        if not error <= tolerance:  # also NaN
            return f"result {index} differs by {error:.2g} of the largest value"
    return ""


def run(case: Case, clock: Clock, torch: Any, budget: float) -> Result:
    """Check each contender's answer against the first's, and time those that agree."""
    result = Result(case.name, case.bytes_bound)
    sets = clock.sets_for(case.bytes_of_a_set)
    expected: list[Any] | None = None
    for contender in case.contenders:
        try:
            work, results = contender.prepare(0)
            work()
            answer = [r.detach().clone() for r in results()]
        except (ImportError, MissingError) as error:
            result.absent[contender.name] = f"absent: {error}"
            continue
        except Exception as error:  # a peer's failure is its own
            result.absent[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        if expected is None:
            expected = answer
        elif case.tolerance is not None:
            wrong = _differs(torch, answer, expected, case.tolerance)
            if wrong:
                result.absent[contender.name] = f"wrong: {wrong}"
                continue
        del results, work
        try:
            works = [contender.prepare(i)[0] for i in range(sets)]
            timing = clock.time(works, budget)
        except Exception as error:
            result.absent[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        moved = contender.moves or case.bytes_bound
        result.times[contender.name] = asdict(timing) | {"bytes": moved, "sets": sets}
        del works
        if not clock.stands_in:
            torch.cuda.empty_cache()
    return result
