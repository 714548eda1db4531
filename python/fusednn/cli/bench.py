"""Measure fusednn beside its peers and the memory's roof on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusednn.benchmarks.case import Case
    from fusednn.benchmarks.results import Results

_REPORTS = ("picture", "page")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fusednn bench``."""
    parser.set_defaults(run=run)
    parser.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="shell patterns on names of cases, or leading parts of names; all if none is given. "
        "'compare OLD.json NEW.json' instead compares two runs, 'page RUN.json' reports on one.",
    )
    parser.add_argument("--list", action="store_true", help="print cases and peers, and exit")
    parser.add_argument(
        "--peers", type=_words, default=[], metavar="A,B", help="peers or libraries; all installed"
    )
    parser.add_argument(
        "--without", type=_words, default=[], metavar="A,B", help="peers to leave out"
    )
    parser.add_argument(
        "--threads", type=_counts, default=[], metavar="1,2", help="numbers of threads; 1 and all"
    )
    parser.add_argument("--dtypes", type=_words, default=[], metavar="A,B")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--quick",
        dest="form",
        action="store_const",
        const="quick",
        default="default",
        help="float32 with all threads, fewer turns",
    )
    forms.add_argument(
        "--full",
        dest="form",
        action="store_const",
        const="full",
        help="every case with every dtype and number of threads",
    )
    forms.add_argument(
        "--smoke",
        dest="form",
        action="store_const",
        const="smoke",
        help="check the answers of small cases, time nothing; any wrong answer is an error",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the results")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="write them as Markdown")


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _counts(text: str) -> list[int]:
    words = _words(text)
    available = len(os.sched_getaffinity(0))
    if not words or not all(w.isdecimal() and 1 <= int(w) <= available for w in words):
        raise argparse.ArgumentTypeError(
            f"must be numbers from 1 to {available}, the CPUs of this process, with commas between "
            f"them. Received: {text!r}"
        )
    return [int(word) for word in words]


def run(arguments: argparse.Namespace) -> None:
    """Do what the arguments say."""
    words: list[str] = arguments.cases
    if words[:1] == ["compare"]:
        _refuse_options("compare", arguments, allowed=())
        _compare(words[1:])
    elif words[:1] == ["page"]:
        _refuse_options("page", arguments, allowed=("page", "picture"))
        _report_on(words[1:], arguments)
    elif arguments.list:
        allowed = ("list", "peers", "without", "threads", "dtypes", "form")
        _refuse_options("--list", arguments, allowed=allowed)
        _list(arguments)
    else:
        _measure(arguments)


def _refuse_options(
    command: str, arguments: argparse.Namespace, *, allowed: tuple[str, ...]
) -> None:
    """Refuse what would have no effect."""
    for name in ("list", "peers", "without", "threads", "dtypes", "form", "json", *_REPORTS):
        value = getattr(arguments, name)
        if value and value != "default" and name not in allowed:
            option = f"--{value if name == 'form' else name}"
            raise ValueError(f"{option} has no effect with {command}")


def _selected(arguments: argparse.Namespace) -> list[tuple[Case, int]]:
    from fusednn.benchmarks.catalogue import select
    from fusednn.benchmarks.shapes import ITEM_SIZES

    for dtype in arguments.dtypes:
        if dtype not in ITEM_SIZES:
            known = ", ".join(ITEM_SIZES)
            raise ValueError(f"--dtypes must be among {known}. Received: {dtype}")
    most = len(os.sched_getaffinity(0))
    return select(arguments.cases, arguments.dtypes, arguments.threads, most, form=arguments.form)


def _list(arguments: argparse.Namespace) -> None:
    from fusednn.benchmarks.peers import PEERS, select_peers

    asked = arguments.peers or arguments.without
    shown = select_peers(arguments.peers, arguments.without) if asked else PEERS
    for case, threads in _selected(arguments):
        print(f"{case.name}  threads={threads}")
    print("\npeers:")
    for peer in shown:
        if not peer.is_roof:
            missing = f"  (not installed: {', '.join(peer.missing)})" if peer.missing else ""
            print(f"  {peer.name:20}{', '.join(peer.families)}{missing}")


def _measure(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from fusednn.benchmarks.measure import FORMS
    from fusednn.benchmarks.peers import select_peers
    from fusednn.benchmarks.run import run as run_cases
    from fusednn.benchmarks.table import HEADER, case_lines

    chosen = _selected(arguments)
    peers = select_peers(arguments.peers, arguments.without)
    _check_outputs(arguments)
    bar = tqdm(total=len(chosen), unit="case", file=sys.stderr, disable=None)
    tqdm.write(HEADER, file=sys.stdout)

    def on_case(results: Results) -> None:
        result = results.cases[-1]
        # At once: a run that is interrupted keeps what it has.
        if arguments.json is not None:
            results.write(arguments.json)
        bar.update()
        bar.set_postfix_str(f"last: {result.name}", refresh=False)
        tqdm.write("\n" + "\n".join(case_lines(result)), file=sys.stdout)
        sys.stdout.flush()

    with bar:
        results = run_cases(
            chosen, peers, FORMS[arguments.form], form=arguments.form, on_case=on_case
        )
    for problem in results.problems:
        print(f"not measured: {problem}", file=sys.stderr)
    _write_reports(results, arguments)
    if arguments.form == "smoke":
        _refuse_wrong_answers(results)


def _refuse_wrong_answers(results: Results) -> None:
    bad = [
        f"{case.name}: {name}: {timing.reason}"
        for case in results.cases
        for name, timing in case.contenders.items()
        if timing.status in ("wrong", "failed")
    ]
    if bad:
        raise ValueError(f"{len(bad)} answers are wrong or missing: {'; '.join(bad)}")


def _check_outputs(arguments: argparse.Namespace) -> None:
    if arguments.picture is not None and arguments.form == "smoke":
        raise ValueError("--picture shows times, and --smoke takes none")
    for path in (arguments.json, arguments.picture, arguments.page):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{path}: the folder must exist")
        if path is not None and path.is_dir():
            raise ValueError(f"{path}: must be a file. Received: a folder")
    if arguments.picture is not None:
        from fusednn.cli.plot import check

        check(arguments.picture, option="--picture")


def _compare(files: list[str]) -> None:
    from fusednn.benchmarks.compare import compare_lines
    from fusednn.benchmarks.results import Results

    if len(files) != 2:
        raise ValueError("compare takes two files: fusednn bench compare OLD.json NEW.json")
    old, new = (Results.read(file) for file in files)
    lines, regressions = compare_lines(old, new)
    print("\n".join(lines))
    if regressions:
        raise ValueError(f"{regressions} cases are slower than before, beyond the noise, or failed")


def _report_on(files: list[str], arguments: argparse.Namespace) -> None:
    from fusednn.benchmarks.results import Results

    if len(files) != 1 or (arguments.page is None and arguments.picture is None):
        raise ValueError("page takes one file, and --page or --picture: where to write")
    _check_outputs(arguments)
    _write_reports(Results.read(files[0]), arguments)


def _write_reports(results: Results, arguments: argparse.Namespace) -> None:
    if arguments.picture is not None:
        from fusednn.benchmarks.picture import draw

        try:
            draw(results, arguments.picture)
        except ValueError as error:
            # What was measured is worth more than its picture.
            print(f"no picture was written: {error}", file=sys.stderr)
    if arguments.page is not None:
        from fusednn.benchmarks.page import page_text

        picture = arguments.picture
        if picture is not None:
            picture = Path(os.path.relpath(picture, arguments.page.absolute().parent))
        arguments.page.write_text(page_text(results, picture))
