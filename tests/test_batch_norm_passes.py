"""How BatchNorm's passes go over memory: tasks, their order, what is stored past the caches.

``batch_norm_passes.cpp`` runs the kernels' headers with a thread pool, caches and non-temporal
stores that keep a record; nothing here is timed.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import fusednn

ROOT = Path(__file__).parents[1]
SOURCE = Path(__file__).with_suffix("").parent / "batch_norm_passes.cpp"
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
STREAMS = fusednn.instruction_set() != "neon"

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs g++"),
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the sources of the kernels"),
]
needs_streams = pytest.mark.skipif(not STREAMS, reason="non-temporal stores are those of x86-64")

DTYPES = {"float32": (0, 4), "float64": (1, 8), "float16": (2, 2), "bfloat16": (3, 2)}
CACHE = 1 << 20
# Outputs from this size on are streamed.
LARGE = CACHE // 4 * 3
LINE = 64


class Task(NamedTuple):
    written: range  # elements
    stores: list[range]  # bytes of the output, past the caches, in the order of writing


class Run(NamedTuple):
    regions: list[list[Task]]  # calls of the thread pool
    inline: Task  # what went to no pool
    vector_bytes: int

    def tasks(self) -> list[Task]:
        return [self.inline, *itertools.chain.from_iterable(self.regions)]

    def stores(self) -> list[range]:
        return [store for task in self.tasks() for store in task.stores]

    def streamed_bytes(self) -> int:
        return sum(map(len, self.stores()))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program, compiled as the kernels of this machine's instruction set are."""
    target = tmp_path_factory.mktemp("passes") / "batch_norm_passes"
    name = fusednn.instruction_set()
    flags = ["-std=c++20", "-O2", "-ffp-contract=off", "-fno-trapping-math", "-Wno-psabi"]
    flags += [f"-march={name}"] if name.startswith("x86-64-") else []
    command = [COMPILER, *flags, f"-I{ROOT / 'csrc'}", SOURCE, "-o", target]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def passes(program):
    @functools.cache
    def run(direction, shape, dtype="float32", threads=8, cache=CACHE, shift=0) -> Run:
        command = [program, direction, DTYPES[dtype][0], *shape, threads, cache, shift]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        record = json.loads(done.stdout)

        def task(of) -> Task:
            return Task(range(*of["written"]), [range(*s) for s in of["stores"]])

        regions = [[task(t) for t in region] for region in record["regions"]]
        return Run(regions, task(record["inline"]), record["vector_bytes"])

    return run


def writers(region: list[Task]) -> list[Task]:
    return [task for task in region if len(task.written)]


def size_of(shape, dtype) -> int:
    return math.prod(shape) * DTYPES[dtype][1]


# (outer, channels, inner): whole rows, rows of more than a unit's channels, runs of several leaves
# that fit the cache beside one another, one leaf each, and runs that do not fit.
STREAMED = [
    (1_601, 251, 1),
    (201, 2_003, 1),
    (7, 16, 4_901),
    (7, 64, 2_001),
    (3, 3, 99_991),
    (16, 200, 257),
]


@needs_streams
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", STREAMED, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("shift", [0, 56])
def test_large_outputs_are_streamed_from_cache_lines_on(passes, direction, shape, dtype, shift):
    run = passes(direction, shape, dtype, shift=shift)
    size = DTYPES[dtype][1]
    assert size_of(shape, dtype) >= LARGE
    for store in run.stores():
        assert (store.start + shift) % LINE == 0
        assert 0 <= store.start < store.stop <= size_of(shape, dtype)
    # All but the peel and the tail of each stretch: at most a line and a vector at either end.
    stretch = shape[2] * size if shape[2] > 1 else size_of(shape, dtype)
    share = 1 - 3 * LINE / min(stretch, 4_096 * size)
    assert run.streamed_bytes() >= share * size_of(shape, dtype)
    # Nothing twice.
    stores = sorted(run.stores(), key=lambda s: s.start)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(stores))


@needs_streams
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_what_a_cache_holds_is_not_streamed(passes, direction, dtype):
    channels = 256
    rows = LARGE // (channels * DTYPES[dtype][1])
    for fewer, streamed in ((1, False), (0, True)):
        for shape in ((rows - fewer, channels, 1), (1, channels, rows - fewer)):
            run = passes(direction, shape, dtype)
            assert (run.streamed_bytes() > 0) == streamed, shape


@needs_streams
@pytest.mark.parametrize("shape", STREAMED, ids=str)
def test_outputs_over_inputs_and_between_elements_are_not_streamed(passes, shape):
    assert passes("in_place", shape).streamed_bytes() == 0
    for direction in ("forward", "backward"):
        assert passes(direction, shape, shift=2).streamed_bytes() == 0
        assert passes(direction, shape, "bfloat16", shift=1).streamed_bytes() == 0


@needs_streams
def test_runs_shorter_than_some_lines_are_not_streamed(passes):
    for dtype, (_, size) in DTYPES.items():
        inner = 512 // size
        for length, streamed in ((inner - 1, False), (inner, True)):
            shape = (64, 64, length)
            run = passes("forward", shape, dtype, cache=CACHE // 2)
            assert size_of(shape, dtype) >= LARGE // 2
            assert (run.streamed_bytes() > 0) == streamed, (dtype, length)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_unit_that_fits_the_cache_goes_through_both_passes_in_one_task(passes, direction, dtype):
    channels, inner = 64, 2_501
    run = passes(direction, (3, channels, inner), dtype)
    (region,) = run.regions
    assert len(region) == channels
    for c, task in enumerate(region):
        assert task.written == range(c * inner, (2 * channels + c + 1) * inner)
        if STREAMS:
            # Backwards: what was read last is in the nearest cache.
            size = DTYPES[dtype][1]
            runs = [s.start // (channels * inner * size) for s in task.stores]
            assert runs == [2, 1, 0]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_unit_is_mapped_beside_the_next_one_where_it_is_streamed(passes, direction, dtype):
    shape, threads = (2, 64, 4_901), 4
    run = passes(direction, shape, dtype, threads=threads)
    if run.vector_bytes == 16:
        pytest.skip("compiled for longer vectors only")
    # Threads take units as they come: here the first one takes all.
    assert [len(region) for region in run.regions] == [threads]
    assert run.regions[0][0].written == range(math.prod(shape))
    # What is not streamed, and what does not fit twice for every thread, goes unit by unit.
    for other in (
        passes(direction, shape, dtype, threads=threads, cache=32 * CACHE),
        passes(direction, shape, dtype, threads=threads, shift=1),
    ):
        assert [len(writers(region)) for region in other.regions] == [shape[1]]


FALLBACKS = [
    (801, 251, 1),
    (201, 2_003, 1),
    (3, 64, 9_973),
    (1, 3, 299_993),
    (7, 9, 4_901),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", FALLBACKS, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("cache", [1 << 15, 1 << 26])
def test_the_second_pass_of_the_fallback_goes_backwards(passes, direction, shape, dtype, cache):
    if shape[2] > 1 and shape[1] % 8 == 0 and cache > 1 << 15:
        pytest.skip("these units fit that cache")
    run = passes(direction, shape, dtype, cache=cache)
    *before, mapping = run.regions
    assert not any(writers(region) for region in before)
    assert writers(mapping) == mapping
    # The last elements first, without a gap.
    ends = [task.written.stop for task in mapping]
    assert ends[0] == math.prod(shape)
    assert [task.written.start for task in mapping] == [*ends[1:], 0]


# Few channels of a large inner dimension, with and without an outer one, and many channels of a
# tiny outer dimension: in strips, in units of some columns, in groups of short runs.
SKEWED = [
    (1, 3, 500_003),
    (1, 1, 500_003),
    (2, 3, 300_007),
    (500_003, 3, 1),
    (1, 300_000, 1),
    (2, 300_000, 1),
    (64, 8_000, 1),
    (1, 300_000, 2),
    (2, 20_000, 31),
]


@pytest.mark.parametrize("shape", SKEWED, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("cache", [CACHE, 1 << 27])
@pytest.mark.parametrize("threads", [2, 16])
def test_skewed_shapes_have_tasks_for_all_threads(passes, direction, shape, cache, threads):
    run = passes(direction, shape, threads=threads, cache=cache)
    assert run.inline.written == range(0)
    # All of it in the last region, or one that reduces, one that finishes units and one that maps.
    fallback = len(run.regions) > 2
    over_elements = [run.regions[-1], run.regions[-3]] if fallback else [run.regions[-1]]
    for region in over_elements:
        assert len(region) >= threads
    # None maps much more than a thread's share.
    if fallback:
        share = math.prod(shape) / threads
        assert max(len(task.written) for task in run.regions[-1]) <= 1.25 * share


@pytest.mark.parametrize("shape", [(32, 100, 1), (8, 16, 49), (1, 3, 10_007)], ids=str)
def test_small_calls_stay_on_their_thread(passes, shape):
    for direction in ("forward", "backward", "in_place"):
        run = passes(direction, shape)
        assert run.regions == []
        if direction != "in_place":
            assert run.inline.written == range(math.prod(shape))
