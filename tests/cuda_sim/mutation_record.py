"""What came of each mutation when it was last run: `mutations_record.txt`.

A line holds a digest of the bug and of the tests that are to notice it, the verdict, and the
mutation's name. ``mutations.py --record`` writes it; a test compares it with the lists, so that no
mutation is new or changed without having been run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutations import Mutation

RECORD = Path(__file__).with_name("mutations_record.txt")


def line(mutation: Mutation) -> str:
    """The line of a mutation that was run and did what its list says."""
    said = [
        *(mutation.target, mutation.file, mutation.text, mutation.replacement),
        *(mutation.units, mutation.tests),
    ]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]
    return f"{digest} {'survives' if mutation.survives else 'noticed'} {mutation.name}"


def lines(path: Path = RECORD) -> set[str]:
    return set(path.read_text().splitlines()) if path.exists() else set()


def add(mutation: Mutation, listed: Sequence[Mutation], path: Path = RECORD) -> None:
    """Write down that `mutation` was run; what is no longer listed so is left out."""
    known = lines(path) | {line(mutation)}
    path.write_text("".join(f"{run}\n" for run in map(line, listed) if run in known))


def differences(listed: Sequence[Mutation], path: Path = RECORD) -> list[str]:
    """What the record lacks, and what it has that no list has."""
    expected, known = set(map(line, listed)), lines(path)
    return [
        *(f"was not run: {run}" for run in sorted(expected - known)),
        *(f"is not listed: {run}" for run in sorted(known - expected)),
    ]
