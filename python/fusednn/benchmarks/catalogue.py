"""Every case there is, and which of them a run takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import prod

from fusednn.benchmarks.case import Case, Stream
from fusednn.benchmarks.optimizers import OPTIMIZERS, Optimizer
from fusednn.benchmarks.shapes import ITEM_SIZES, LAYOUTS, LISTS, MODELS, SMALL, full_size, size_of

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
LEAKY_RELU_SUBJECTS = ["nc-32x100", "nchw-32x256x14x14", "nchw-32x64x112x112"]
#: Work that is also done while a neighbour keeps a CPU busy.
NEIGHBOUR_CASES = (
    ("batch_norm-forward", "nc-8192x1024"),
    ("batch_norm-forward", "nchw-32x256x14x14"),
    ("optimizer-adam", "100x100x100"),
)

# Of other dtypes a run takes, when nothing is said, the passes and optimizers of most interest.
_OTHER_DTYPES = {
    "batch_norm": {"forward", "backward"},
    "leaky_relu": {"forward", "backward"},
    "optimizer": {"momentum", "rmsprop", "adam"},
}
# With one thread, where the question is what the second one brings, and of float64 and float16,
# fewer still.
_ONE_THREAD = {
    "batch_norm": {"forward", "backward"},
    "leaky_relu": {"forward"},
    "optimizer": {"adam", "rmsprop"},
    "step": {"adam"},
    "neighbour": set[str](),
}
_FEW_SUBJECTS = {
    *("nchw-32x64x112x112", "nc-8192x1024", "nc-32x100"),
    *("2x16M", "500x32"),
    *MODELS,
}
# What an option costs shows where memory decides, and where calls do.
_OPTION_SUBJECTS = {"2x4M", "100x32"}
# New gradients cost what asking for many arrays costs.
_MANY_ARRAYS = {"100x100x100", "500x32", "100x32"}
# Global clipping is an algorithm of its own: it needs all gradients before any update.
_LIKE_PLAIN = {"adam-clip"}
# Of the smoke form, in which not every variant meets every dtype in every subject.
_FIRST_VARIANTS = {"forward", "adam"}
_FIRST_SUBJECTS = {"nc-32x100", "1x1k"}


def _activation_cases(
    family: str, passes: dict[str, list[tuple[int, int, int]]], subjects: list[str], suffix: str
) -> Iterator[Case]:
    for variant, streams in passes.items():
        for subject in subjects:
            for dtype, item in ITEM_SIZES.items():
                name = subject + suffix
                size = prod(LAYOUTS[name].shape) * item
                yield Case(family, variant, name, dtype, tuple(Stream(*s, size) for s in streams))


def _optimizer_cases(suffix: str) -> Iterator[Case]:
    for variant, optimizer in OPTIMIZERS.items():
        for subject in full_size(LISTS):
            for dtype in ITEM_SIZES:
                if optimizer.takes(dtype):
                    name = subject + suffix
                    yield Case(
                        "optimizer", variant, name, dtype, update_streams(optimizer, name, dtype)
                    )


def update_streams(optimizer: Optimizer, subject: str, dtype: str) -> tuple[Stream, ...]:
    """Return the least traffic of an optimizer's step."""
    count = size_of(LISTS[subject])
    size = count * ITEM_SIZES[dtype]
    # float16 parameters have float32 states; 8-bit states a float32 scale for 256 elements.
    state = (
        count * 4 if dtype == "float16" else count + count // 64 if optimizer.quantized else size
    )
    beside = len(optimizer.states) + (optimizer.ema_momentum is not None)
    # One read of the gradients finds their norm and whether all are finite.
    looks_first = optimizer.clips_by_norm or optimizer.skip_nonfinite
    passes = [Stream(1, 0, 0, size)] * looks_first
    if state == size:
        passes.append(Stream(1, 1 + beside, 0, size))
    else:
        passes += [Stream(1, 1, 0, size), *[Stream(0, 1, 0, state)] * beside]
    if optimizer.low_precision_copy:
        # Written through the caches, which read the lines first.
        passes.append(Stream(0, 1, 0, count * 2))
    return tuple(passes)


def _neighbour_cases(cases: dict[str, Case], suffix: str) -> Iterator[Case]:
    for variant, subject in NEIGHBOUR_CASES:
        case = Case("neighbour", variant, subject + suffix, "float32", ())
        yield Case(
            *(case.family, case.variant, case.subject, case.dtype),
            cases[case.under_test.name].streams,
        )


@cache
def _cases(suffix: str) -> dict[str, Case]:
    found = [
        *_activation_cases("batch_norm", BATCH_NORM_PASSES, full_size(LAYOUTS), suffix),
        *_activation_cases("leaky_relu", LEAKY_RELU_PASSES, LEAKY_RELU_SUBJECTS, suffix),
        *_optimizer_cases(suffix),
        *(Case("step", "adam", model + suffix, "float32", ()) for model in full_size(MODELS)),
    ]
    cases = {case.name: case for case in found}
    return cases | {case.name: case for case in _neighbour_cases(cases, suffix)}


def all_cases() -> dict[str, Case]:
    """Return every case by its name."""
    return _cases("")


def case_named(name: str) -> Case:
    """Return the case, or small form of one, of this name."""
    return _cases(SMALL)[name] if SMALL in name else _cases("")[name]


def small_form(case: Case) -> Case:
    """Return the case with the small form of its subject."""
    return case_named(f"{case.family}/{case.variant}/{case.subject}{SMALL}/{case.dtype}")


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
        interest; full: the whole product; quick: float32 with all threads; smoke: small forms with
        all threads: every pass and optimizer with every subject in float32 and with one subject
        in every dtype, one of them with every subject in every dtype. But in the full form,
        options of optimizers meet two lists (smoke: three). Patterns take what the form leaves out.

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
        if not patterns and not _of_form(case, form):
            continue
        for count in sorted(set(threads)) or sorted({1, most_threads}):
            if threads or count == most_threads or _with_one_thread(case, form):
                chosen.append((small_form(case) if form == "smoke" else case, count))
    if not chosen:
        raise ValueError("no case is left: see --list, --dtypes and --threads")
    return chosen


def _of_dtype(case: Case, form: str) -> bool:
    if form == "full" or case.dtype == "float32":
        return True
    if form == "smoke":
        return case.variant in _FIRST_VARIANTS or case.subject in _FIRST_SUBJECTS
    if form != "default":
        return False
    if case.family == "optimizer" and OPTIMIZERS[case.variant].stochastic_rounding:
        return True  # it has no other dtype
    if case.variant not in _OTHER_DTYPES[case.family]:
        return False
    if case.dtype == "bfloat16" and case.family != "optimizer":
        return True
    return case.subject in _FEW_SUBJECTS


def _of_form(case: Case, form: str) -> bool:
    """Whether a form that thins out options and lists has the case."""
    if case.family != "optimizer" or form == "full":
        return True
    if OPTIMIZERS[case.variant].plain is not None and case.variant not in _LIKE_PLAIN:
        few = _MANY_ARRAYS if OPTIMIZERS[case.variant].new_gradients else _OPTION_SUBJECTS
        few = few | (_FIRST_SUBJECTS if form == "smoke" else set())
        return case.subject in few
    # These lists are about options, and what a list costs as such, which one optimizer tells.
    return case.subject not in _OPTION_SUBJECTS or (
        case.variant == "adam" and case.dtype == "float32"
    )


def _with_one_thread(case: Case, form: str) -> bool:
    if form != "default":
        return form == "full" and case.family != "neighbour"
    few = case.dtype == "float32" and case.subject in _FEW_SUBJECTS
    return few and case.variant in _ONE_THREAD[case.family]
