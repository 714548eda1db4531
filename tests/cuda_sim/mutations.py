"""Plant bugs in the simulated kernels, one at a time, and see whether tests notice.

``python tests/cuda_sim/mutations.py [--short] [--only WORD] [--jobs N] [--record]``: reads
`mutations_<family>.toml`, needs the simulator built (`nox -s mutations` does both). Each mutation
is made in a copy of the kernels; the units it names are compiled as CMake compiled them and
linked with the other objects; the tests it names run against that library. A mutation that no
test notices is a survivor: it is an error, unless the list says with `survives` why nothing can
notice it; then being noticed is one. `--record` writes down which did what their lists say.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import mutation_record
from freshness import staleness

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: A mutation that makes threads wait for ever is noticed by this, in seconds; or by five times what
#: its tests take without it, on a machine that is slow or has other work.
LIMIT = 120
PATIENCE = 5
#: Of tests without a bug.
LONGEST = 900


@dataclass(frozen=True)
class Target:
    """A library of simulated kernels, where its sources lie, and what they include from."""

    library: str
    sources: Path
    include: Path


TARGETS = {
    "cuda": Target("fusednn_cuda_sim", ROOT / "csrc/cuda", ROOT / "csrc"),
    "selftest": Target("fusednn_cuda_sim_selftest", HERE / "selftest", HERE),
}


@dataclass(frozen=True)
class Mutation:
    """A planted bug: in `file`, `text` (found once) becomes `replacement`; `why` it is wrong."""

    file: str
    text: str
    replacement: str
    why: str
    units: list[str]  # the .cu files to compile anew
    tests: list[str]  # pytest's arguments, relative to tests/cuda_sim
    target: str = "cuda"
    short: bool = False
    survives: str = ""

    @property
    def name(self) -> str:
        return f"{self.file}: {self.why}"


@dataclass
class Result:
    mutation: Mutation
    noticed: bool = False
    error: str = ""
    seconds: float = 0.0
    output: str = field(default="", repr=False)

    @property
    def is_good(self) -> bool:
        return not self.error and self.noticed == (not self.mutation.survives)

    def __str__(self) -> str:
        mutation = self.mutation
        if self.error:
            verdict = "ERROR"
        elif mutation.survives:
            verdict = "NOTICED, though the list says it survives" if self.noticed else "survives"
        else:
            verdict = "noticed" if self.noticed else "SURVIVES"
        reason = f" ({mutation.survives})" if mutation.survives and not self.noticed else ""
        return f"{verdict}: {mutation.name}{reason}, {self.seconds:.0f} s" + self.error


def read(path: Path) -> list[Mutation]:
    """The mutations of a list; `tests` and `units` may be given once for a file's mutations."""
    listed = tomllib.loads(path.read_text())
    defaults = listed.get("file", {})
    return [
        Mutation(**{**defaults.get(entry["file"], {}), **entry}) for entry in listed["mutation"]
    ]


def lists() -> list[Path]:
    return sorted(HERE.glob("mutations_*.toml"))


def listed() -> list[Mutation]:
    """All mutations of all lists."""
    return [mutation for path in lists() for mutation in read(path)]


class Builder:
    """Compiles units as the build in `folder` did, from a copy of their sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = {
            Path(entry["file"]): entry
            for entry in json.loads((folder / "compile_commands.json").read_text())
        }

    def build(self, target: Target, copy: Path, units: list[str], output: Path) -> str:
        """Build the library; return the compiler's words where it fails."""
        objects = [copy / f"{unit}.o" for unit in units]
        for unit, made in zip(units, objects, strict=True):
            entry = self.commands[target.sources / unit]
            command = shlex.split(entry["command"])
            command[command.index("-o") + 1] = str(made)
            command[-1] = str(copy / target.sources.name / unit)
            # Headers of the copy come first. Whether the bug draws a warning is not the question.
            command[1:1] = [f"-I{copy}", "-w", "-O1"]
            command = [word for word in command if word not in {"-Werror", "-O2"}]
            done = subprocess.run(
                command, cwd=entry["directory"], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                return done.stderr
        own = {target.sources / unit for unit in units}
        folders = [f"/{name}.dir/" for name in (target.library, "gpusim")]
        others = []
        for path, entry in self.commands.items():
            words = shlex.split(entry["command"])
            made_by_cmake = words[words.index("-o") + 1]
            if path not in own and any(name in made_by_cmake for name in folders):
                others.append(str(Path(entry["directory"]) / made_by_cmake))
        compiler = shlex.split(next(iter(self.commands.values()))["command"])[0]
        library = output / f"lib{target.library}.so"
        done = subprocess.run(
            [
                compiler,
                "-shared",
                "-o",
                str(library),
                *map(str, objects),
                *others,
                "-ldl",
                "-lpthread",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stderr if done.returncode != 0 else ""


def plant(mutation: Mutation, copy: Path) -> str:
    """Copy the target's sources and make the change; return what is wrong with the mutation."""
    target = TARGETS[mutation.target]
    sources = copy / target.sources.name
    shutil.copytree(target.sources, sources)
    path = sources / mutation.file
    text = path.read_text()
    if (count := text.count(mutation.text)) != 1:
        return f"the text must be in {mutation.file} once. Found: {count} times"
    path.write_text(text.replace(mutation.text, mutation.replacement))
    return ""


def run_tests(tests: list[str], libraries: Path, limit: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    paths = [str(HERE / test) if test.endswith(".py") else test for test in tests]
    env = {**os.environ, "FUSEDNN_CUDA_SIM": str(libraries)}
    return subprocess.run(
        [*command, *paths],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )


def try_mutation(mutation: Mutation, builder: Builder, limit: float = LIMIT) -> Result:
    result, start = Result(mutation), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target = TARGETS[mutation.target]
        result.error = plant(mutation, folder)
        if not result.error:
            result.error = builder.build(target, folder, mutation.units, folder)
        if not result.error:
            try:
                done = run_tests(mutation.tests, folder, limit)
            except subprocess.TimeoutExpired:
                result.noticed = True
            else:
                # 1: tests failed; below 0: a signal ended it. All else says nothing of the bug.
                result.noticed = done.returncode == 1 or done.returncode < 0
                result.output = done.stdout
                skipped = " passed" not in done.stdout and not result.noticed
                if done.returncode > 1 or skipped:
                    result.error = f"pytest returned {done.returncode}\n{done.stdout}"
    if result.error:
        result.error = "\n" + result.error
    result.seconds = time.monotonic() - start
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", type=Path, action="append", help="instead of all lists")
    parser.add_argument("--build", type=Path, default=ROOT / "build/cuda_sim")
    parser.add_argument("--short", action="store_true", help="those marked `short` only")
    parser.add_argument("--only", default="", help="those whose file or reason has this in it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--record", action="store_true", help=f"in {mutation_record.RECORD.name}")
    arguments = parser.parse_args()
    mutations = [
        m
        for path in arguments.list or lists()
        for m in read(path)
        if (m.short or not arguments.short) and arguments.only in m.name
    ]
    if not mutations:
        sys.exit("no mutation is chosen")
    builder = Builder(arguments.build.absolute())
    libraries = builder.folder / "tests/cuda_sim"
    for target in {TARGETS[mutation.target].library for mutation in mutations}:
        # Its objects are linked with those of the planted bugs.
        if stale := staleness(libraries / f"lib{target}.so"):
            sys.exit(stale)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        # Tests that fail without a bug would notice everything.
        choices = sorted({tuple(m.tests) for m in mutations})
        limits: dict[tuple[str, ...], float] = {}

        def without_bug(chosen: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
            start = time.monotonic()
            done = run_tests([*chosen], libraries, LONGEST)
            limits[chosen] = max(LIMIT, PATIENCE * (time.monotonic() - start))
            return done

        for chosen, done in zip(choices, pool.map(without_bug, choices), strict=True):
            if done.returncode != 0:
                sys.exit(f"{chosen} fails without a bug:\n{done.stdout}")
        results = []
        for result in pool.map(
            lambda m: try_mutation(m, builder, limits[tuple(m.tests)]), mutations
        ):
            print(result, flush=True)
            results.append(result)
            if arguments.record and result.is_good:
                mutation_record.add(result.mutation, listed())
    bad = sum(not result.is_good for result in results)
    print(f"{len(results) - bad} of {len(results)} mutations as they should be")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
