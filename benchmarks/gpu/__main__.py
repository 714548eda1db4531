"""Measure fusednn on a GPU beside PyTorch: ``python benchmarks/gpu --json FILE``.

The roof comes first, then what `questions.cu` measures, BatchNorm, the optimizers, those of a
billion parameters last of them, until the time is over: what was not reached is told. torch.compile
takes seconds for each layer: it takes part in the first shape's cases, and all other layers come
once more beside it at the very end, as far as the time goes. ``--dry-run`` does all of it on the
CPU in a small form; its times mean nothing. ``--predict RATE`` measures nothing and needs no GPU:
it says how long the bytes of each case take where a copy moves RATE TB/s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import batch_norm
import ceiling
import optimizers
import questions
from cases import Case, Result, run
from clock import Clock, GpuClock, HostClock
from report import device_facts, predictions, table, write


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument(
        "--seconds",
        type=float,
        default=180,
        help="when to begin nothing more (default: 180; layers beside torch.compile come last)",
    )
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--questions", type=Path, help="questions.cu, compiled")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in a small form")
    parser.add_argument(
        "--predict", type=float, metavar="RATE", help="times at so many TB/s; nothing is run"
    )
    return parser.parse_args()


def all_cases(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """What comes after the roof, what matters most first."""
    yield from batch_norm.questions(torch, where, small)
    yield from batch_norm.cases(torch, where, small)
    yield from optimizers.cases(torch, where, small)
    yield from batch_norm.compiled_cases(torch, where, small)


def main() -> None:
    given = arguments()
    import torch

    if given.predict is not None:
        every = (*ceiling.cases(torch, "cuda", False), *all_cases(torch, "cuda", False))
        for line in predictions([c for c in every if given.only in c.name], given.predict * 1e12):
            print(line)
        return

    deadline = time.monotonic() + given.seconds
    where = "cpu" if given.dry_run else "cuda"
    clock: Clock = HostClock() if given.dry_run else GpuClock(torch)
    facts = device_facts(torch, given.dry_run)
    results: list[Result] = []
    missed: list[str] = []
    answers: dict[str, Any] = {}

    def measure(cases: Iterator[Case]) -> None:
        for case in cases:
            if given.only not in case.name:
                continue
            if time.monotonic() > deadline:
                missed.append(case.name)
                continue
            results.append(run(case, clock, torch, budget=0.2))
            if given.json:  # what was measured stays, whatever comes next
                write(given.json, facts, results, answers)

    measure(ceiling.cases(torch, where, given.dry_run))
    answers |= questions.run(given.questions, given.dry_run)
    measure(all_cases(torch, where, given.dry_run))
    for name, value in facts.items():
        print(f"{name:16}{value}")
    for line in [*table(results), *questions.table(answers)]:
        print(line)
    if missed:
        print(f"not reached in {given.seconds:.0f} s: {len(missed)} cases, from {missed[0]}")
    doubtful = [r.case for r in results if r.is_doubtful]
    if doubtful or not results:
        raise SystemExit(f"failed: {', '.join(doubtful) or 'no case was run'}")


if __name__ == "__main__":
    main()
