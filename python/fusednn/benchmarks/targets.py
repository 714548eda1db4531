"""What fusednn wants to reach, and what a run reached: computed from its results alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from fusednn.benchmarks.results import CaseResult, Results

#: A case is large if it moves this many times the last cache level.
_LARGE = 2
#: Of the number of threads, the least speed-up wanted; and that the roof must have to compare.
_SCALING = 0.85


@dataclass(frozen=True)
class Measured:
    """A case with all threads, and with one where the run has that too."""

    case: CaseResult
    alone: CaseResult | None = None


Value = Callable[[Measured], float | None]


def _against(*names: str) -> Value:
    """How many times as fast fusednn is as the fastest of these."""

    def value(measured: Measured) -> float | None:
        case = measured.case
        found = (case.contenders.get(name) for name in names)
        seconds = [timing.seconds for timing in found if timing and timing.timed]
        return min(seconds) / case.ours.seconds if seconds and case.ours else None

    return value


def _in_torch(measured: Measured) -> float | None:
    """How many times as fast fusednn's optimizer in PyTorch is as PyTorch's fused one."""
    found = [measured.case.contenders.get(name) for name in ("torch-fused", "fusednn-torch")]
    seconds = [timing.seconds for timing in found if timing and timing.timed]
    return seconds[0] / seconds[1] if len(seconds) == 2 else None


def _against_best(measured: Measured) -> float | None:
    case = measured.case
    best = case.best_peer()
    return best[1].seconds / case.ours.seconds if best and case.ours else None


def _over_roof(measured: Measured) -> float | None:
    case = measured.case
    return case.ours.seconds / case.roof.seconds if case.ours and case.roof else None


def _over_non_temporal(measured: Measured) -> float | None:
    case = measured.case
    roof = case.contenders.get("roof-non-temporal")
    timed = case.ours and roof and roof.timed
    return case.ours.seconds / roof.seconds if timed and case.ours and roof else None


def _of_roof(measured: Measured) -> float | None:
    over = _over_roof(measured)
    return None if over is None else 1 / over


def _microseconds(measured: Measured) -> float | None:
    ours = measured.case.ours
    return ours.seconds * 1e6 if ours else None


def _overhead(measured: Measured) -> float | None:
    """Microseconds beyond those of the bytes alone."""
    ours, roof = measured.case.ours, measured.case.roof
    return (ours.seconds - roof.seconds) * 1e6 if ours and roof else None


def _scaling(measured: Measured) -> float | None:
    """How many times as fast all threads are as one, by their number, where the roof scales."""
    case, alone = measured.case, measured.alone
    if alone is None or alone.ours is None or case.ours is None:
        return None
    if alone.roof is None or case.roof is None:
        return None
    threads = case.threads / alone.threads
    roof = alone.roof.seconds / case.roof.seconds / threads
    return alone.ours.seconds / case.ours.seconds / threads if roof >= _SCALING else None


@dataclass(frozen=True)
class Figure:
    """What is counted in a case.

    Attributes
    ----------
    name : str
    of : callable
        The figure of a case, None where it was not measured.
    at_least : bool
        Whether a bound is the least that is wanted; else the most.
    """

    name: str
    of: Value
    at_least: bool = True


@dataclass(frozen=True)
class Target:
    """A bound on a figure of some cases.

    Attributes
    ----------
    about : str
    variants : tuple of str
        ``family/variant`` of the cases.
    figure : Figure
    bound : float
    subjects : tuple of str
        Of the cases; empty: the large ones.
    dtype : str
    any_subject : bool
        Whether all subjects are meant.
    """

    about: str
    variants: tuple[str, ...]
    figure: Figure
    bound: float
    subjects: tuple[str, ...] = ()
    dtype: str = "float32"
    any_subject: bool = False

    def holds_for(self, case: CaseResult, last_cache: int) -> bool:
        """Whether this case is meant, on a machine with so many bytes of its last cache level."""
        if f"{case.family}/{case.variant}" not in self.variants or case.dtype != self.dtype:
            return False
        if self.any_subject or self.subjects:
            return self.any_subject or case.subject in self.subjects
        return case.traffic >= _LARGE * last_cache

    def kept_by(self, value: float) -> bool:
        """Whether a figure is within the bound."""
        return value >= self.bound if self.figure.at_least else value <= self.bound


@dataclass(frozen=True)
class Reached:
    """What a run reached of a target.

    Attributes
    ----------
    values : list of float
        The figure in each case, the worst first; empty where none was measured.
    busy : int
        Cases that do not count: other programs took a good part of the processors.
    """

    target: Target
    values: list[float]
    busy: int = 0

    @property
    def worst(self) -> float:
        """The worst figure."""
        return self.values[0]

    @property
    def median(self) -> float:
        """The median over the cases."""
        return statistics.median(self.values)

    @property
    def met(self) -> int:
        """In how many cases the bound is kept."""
        return sum(map(self.target.kept_by, self.values))


_NON_TEMPORAL = Figure("time / non-temporal copy", _over_non_temporal, at_least=False)
_ROOF = Figure("time / roof", _over_roof, at_least=False)
_OF_ROOF = Figure("roof / time", _of_roof)
_BEST = Figure("x the best peer", _against_best)
_EAGER = Figure("x torch eager", _against("torch"))
_FUSED = Figure("x torch fused", _against("torch-fused"))
_IN_TORCH = Figure("fusednn.torch.optim x torch fused", _in_torch)
_FOREACH = Figure("x torch foreach", _against("torch-foreach"))
_CLIPPED = Figure("x torch clip_grad_norm_ and fused", _against("torch-fused"))
_JAX = Figure("x JAX", _against("jax", "keras-jax"))
_TORCH = Figure("x torch", _against("torch", "torch-fused", "torch-compile"))
_CALL = Figure("us a call", _microseconds, at_least=False)
_OVERHEAD = Figure("us beyond the roof", _overhead, at_least=False)
_THREADS = Figure("x one thread / threads, where the roof's is as much", _scaling)
_NEIGHBOUR = Figure("x one thread beside the neighbour", _against("fusednn-one-thread"))
_PLAIN = Figure("x the plain optimizer", _against("fusednn-plain"))


def _variants(family: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{family}/{name}" for name in names)


_FORWARD = _variants("batch_norm", "forward")
_BACKWARD = _variants("batch_norm", "backward")
_BOTH = _variants("batch_norm", "both")
_STREAMED = _variants("optimizer", "adam", "adagrad", "momentum", "nesterov")
_ADAM = _variants("optimizer", "adam")
_LISTED = _variants("optimizer", "adam", "adam-new-gradients")
_CLIP = _variants("optimizer", "adam-clip")
_RMSPROP = _variants("optimizer", "rmsprop", "rmsprop-centered", "rmsprop-momentum")
_STEP = _variants("step", "adam")
_CALLS = _variants("batch_norm", "forward", "backward", "inference") + _variants(
    "leaky_relu", "forward", "backward"
)
_LOW_PRECISION = _variants("optimizer", "adam", "momentum", "rmsprop")
_EIGHT_BIT = _variants("optimizer", "adam-8bit", "momentum-8bit", "rmsprop-8bit")
_FREE_OPTIONS = _variants("optimizer", "adamw", "adam-l2", "adam-clip-value", "adam-grad-scale")

_BN = "BatchNorm + leaky ReLU"
_LARGE_STREAMED = "Adam, AdaGrad, momentum, Nesterov, large"
_LARGE_RMSPROP = "RMSProp, also centered or with momentum, large"
_MIDDLE = ("100x100x100",)

TARGETS: tuple[Target, ...] = (
    Target(f"{_BN} forward, large", _FORWARD, _NON_TEMPORAL, 1.4),
    Target(f"{_BN} forward, large", _FORWARD, _EAGER, 6),
    Target(f"{_BN} forward, large", _FORWARD, _BEST, 3),
    Target(f"{_BN} backward, large", _BACKWARD, _ROOF, 1.4),
    Target(f"{_BN} backward, large", _BACKWARD, _EAGER, 4),
    Target(f"{_BN} backward, large", _BACKWARD, _BEST, 2),
    Target(f"{_BN}, large, bfloat16", _FORWARD + _BACKWARD, _ROOF, 1.5, dtype="bfloat16"),
    Target(f"{_BN}, large, bfloat16", _FORWARD + _BACKWARD, _EAGER, 4, dtype="bfloat16"),
    Target(f"{_BN} forward + backward, (32, 100)", _BOTH, _EAGER, 8, ("nc-32x100",)),
    Target(_LARGE_STREAMED, _STREAMED, _OF_ROOF, 0.95),
    Target(_LARGE_STREAMED, _STREAMED, _FUSED, 0.95),
    Target(_LARGE_RMSPROP, _RMSPROP, _OF_ROOF, 0.95),
    Target(_LARGE_RMSPROP, _RMSPROP, _FOREACH, 4),
    Target(
        "Adam, AdaGrad, momentum, Nesterov, 500 arrays of 32", _STREAMED, _FUSED, 8, ("500x32",)
    ),
    Target("Adam, 100 arrays of 100 x 100 and 100", _ADAM, _FUSED, 4, _MIDDLE),
    Target("RMSProp, 100 arrays of 100 x 100 and 100", _RMSPROP, _FOREACH, 10, _MIDDLE),
    Target("Adam with clipping by global norm, large", _CLIP, _CLIPPED, 2),
    Target(
        "Adam, momentum, RMSProp, large, bfloat16", _LOW_PRECISION, _OF_ROOF, 0.85, dtype="bfloat16"
    ),
    Target(
        "Adam, momentum, RMSProp, large, float16", _LOW_PRECISION, _OF_ROOF, 0.85, dtype="float16"
    ),
    Target("Adam, momentum, RMSProp, 8-bit states, large", _EIGHT_BIT, _OF_ROOF, 0.85),
    Target("Options that move no more bytes, large", _FREE_OPTIONS, _PLAIN, 0.95),
    Target("A call on a (32, 100) array", _CALLS, _CALL, 3, ("nc-32x100",)),
    Target("Adam, 100 arrays of 32", _LISTED, _OVERHEAD, 10, ("100x32",)),
    Target("Adam in PyTorch, 100 arrays of 32", _ADAM, _IN_TORCH, 6, ("100x32",)),
    Target(
        "Threads",
        _FORWARD + _BACKWARD + _variants("leaky_relu", "forward") + _ADAM + _RMSPROP[:1] + _STEP,
        _THREADS,
        _SCALING,
        any_subject=True,
    ),
    Target(
        "A busy neighbour",
        tuple(f"neighbour/{variant}" for variant in ("batch_norm-forward", "optimizer-adam")),
        _NEIGHBOUR,
        0.95,
        any_subject=True,
    ),
    Target("Training step", _STEP, _BEST, 2, ("784-300-100-10-batch32",)),
    Target("Training step", _STEP, _BEST, 2, ("3072-20x100-10-batch32",)),
    Target("Training step", _STEP, _BEST, 1.2, ("784-300-100-10-batch256",)),
    Target("Training step", _STEP, _JAX, 1.2, ("784-4x1024-10-batch256",)),
    Target("Training step", _STEP, _TORCH, 0.9, ("784-4x1024-10-batch256",)),
)


def reached(results: Results) -> list[Reached]:
    """Return what a run reached of each target, with all threads that it used."""
    threads = max((case.threads for case in results.cases), default=0)
    one = {case.name: case for case in results.cases if case.threads == 1 < threads}
    cases = [Measured(c, one.get(c.name)) for c in results.cases if c.threads == threads]
    last_cache = int(results.machine["caches"]["L3"])
    found = []
    for target in TARGETS:
        about = [m for m in cases if target.holds_for(m.case, last_cache)]
        values = [target.figure.of(m) for m in about if not m.case.busy]
        worst_last = not target.figure.at_least
        known = sorted((v for v in values if v is not None), reverse=worst_last)
        found.append(Reached(target, known, sum(m.case.busy for m in about)))
    return found
