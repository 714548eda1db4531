"""Every case there is, and which of them a run takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod

from fusednn.benchmarks.case import Case, Stream
from fusednn.benchmarks.shapes import ITEM_SIZES, LAYOUTS, LISTS, MODELS, OPTIMIZERS, size_of

#: Passes of BatchNorm + leaky ReLU: arrays read, updated in place and written, pass after pass.
#: In place: y replaces x, then grad_x the gradient.
BATCH_NORM_PASSES: dict[str, list[tuple[int, int, int]]] = {
    "forward": [(1, 0, 1)],
    "backward": [(2, 0, 1)],
    "both": [(1, 0, 1), (2, 0, 1)],
    "inference": [(1, 0, 1)],
    "in_place": [(0, 1, 0), (1, 1, 0)],
}
LEAKY_RELU_PASSES = {"forward": [(1, 0, 1)], "backward": [(2, 0, 1)]}
LEAKY_RELU_SUBJECTS = ("nc-32x100", "nchw-32x256x14x14", "nchw-32x64x112x112")

# Of other dtypes a run takes, when nothing is said, the passes and optimizers of most interest.
_OTHER_DTYPES = {
    "batch_norm": {"forward", "backward"},
    "leaky_relu": {"forward", "backward"},
    "optimizer": {"momentum", "rmsprop", "adam"},
}
# With one thread, where the question is what the second one brings, and of float64, fewer still.
_ONE_THREAD = {
    "batch_norm": {"forward", "backward"},
    "leaky_relu": {"forward"},
    "optimizer": {"adam", "rmsprop"},
    "step": {"adam"},
}
_FEW_SUBJECTS = {
    *("nchw-32x64x112x112", "nhwc-32x112x112x64", "nc-8192x1024", "nc-32x100"),
    *("2x16M", "500x32"),
    *MODELS,
}
_SMOKE_SUBJECTS = {"nc-32x100", "1x1k", "784-300-100-10-batch32"}


def _activation_cases(
    family: str, passes: dict[str, list[tuple[int, int, int]]], subjects: tuple[str, ...]
) -> Iterator[Case]:
    for variant, streams in passes.items():
        for subject in subjects:
            for dtype, item in ITEM_SIZES.items():
                size = prod(LAYOUTS[subject].shape) * item
                yield Case(
                    family, variant, subject, dtype, tuple(Stream(*s, size) for s in streams)
                )


def _optimizer_cases() -> Iterator[Case]:
    for variant, optimizer in OPTIMIZERS.items():
        for subject, shapes in LISTS.items():
            for dtype, item in ITEM_SIZES.items():
                size = size_of(shapes) * item
                update = Stream(1, 1 + len(optimizer.states), 0, size)
                norm = () if optimizer.max_norm is None else (Stream(1, 0, 0, size),)
                yield Case("optimizer", variant, subject, dtype, (*norm, update))


@cache
def all_cases() -> dict[str, Case]:
    """Return every case by its name."""
    cases = [
        *_activation_cases("batch_norm", BATCH_NORM_PASSES, tuple(LAYOUTS)),
        *_activation_cases("leaky_relu", LEAKY_RELU_PASSES, LEAKY_RELU_SUBJECTS),
        *_optimizer_cases(),
        *(Case("step", "adam", subject, "float32", ()) for subject in MODELS),
    ]
    return {case.name: case for case in cases}


def select(
    patterns: list[str],
    dtypes: list[str],
    threads: list[int],
    most_threads: int,
    form: str = "default",
) -> list[tuple[Case, int]]:
    """Return what to run: cases, and the number of threads of each.

    Parameters
    ----------
    patterns : list of str
        Shell patterns on names, or leading parts of names; empty: all.
    dtypes : list of str
        Empty: those that `form` says.
    threads : list of int
        Empty: those that `form` says.
    most_threads : int
        How many there are.
    form : {"default", "full", "quick", "smoke"}
        default: float32 with all threads, and of other dtypes and with one thread what is of most
        interest; full: the whole product; quick: float32 with all threads;
        smoke: the smallest subject of each pass and optimizer, in every dtype, with all threads.

    Raises
    ------
    ValueError
        If a pattern fits no case, or nothing is left.
    """
    cases = list(all_cases().values())
    for pattern in patterns:
        if not any(case.matches([pattern]) for case in cases):
            raise ValueError(
                f"no case fits {pattern!r}: names are like {cases[0].name!r}; see --list"
            )
    if patterns:
        cases = [case for case in cases if case.matches(patterns)]
    chosen = []
    for case in cases:
        if not (case.dtype in dtypes if dtypes else _of_dtype(case, form)):
            continue
        if form == "smoke" and case.subject not in _SMOKE_SUBJECTS:
            continue
        for count in threads or sorted({1, most_threads}):
            if threads or count == most_threads or _with_one_thread(case, form):
                chosen.append((case, count))
    if not chosen:
        raise ValueError("no case is left: see --list, --dtypes and --threads")
    return chosen


def _of_dtype(case: Case, form: str) -> bool:
    if form in ("full", "smoke") or case.dtype == "float32":
        return True
    if form != "default" or case.variant not in _OTHER_DTYPES[case.family]:
        return False
    return case.dtype == "bfloat16" or case.subject in _FEW_SUBJECTS


def _with_one_thread(case: Case, form: str) -> bool:
    if form != "default":
        return form == "full"
    few = case.dtype == "float32" and case.subject in _FEW_SUBJECTS
    return few and case.variant in _ONE_THREAD[case.family]
