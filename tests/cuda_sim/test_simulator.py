"""The simulator runs correct kernels as a GPU would, and notices each kind of bug."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulator import SCHEDULES, DeviceArray, Simulator

THREADS = 128
INPUT = np.arange(1, THREADS + 1, dtype=np.float32)


def run(
    selftest: Simulator, name: str, schedule: tuple[str, int] = ("fifo", 1)
) -> tuple[int, np.ndarray]:
    """Run a kernel that takes an array to another; return its status and what it wrote."""
    selftest.schedule(*schedule)
    x, out = selftest.array(INPUT), selftest.empty(THREADS)
    function = getattr(selftest.functions, f"selftest_{name}")
    status = function(x.address, out.address, THREADS, 4 * THREADS)
    return status, out.get()


def outputs(selftest: Simulator, name: str) -> list[np.ndarray]:
    """What a kernel that does not fail writes in each order of threads."""
    if selftest.sanitizer == "thread":
        pytest.skip("a test of its own is about what the thread sanitizer says of races")
    results = [run(selftest, name, schedule) for schedule in SCHEDULES]
    assert [status for status, _ in results] == [0] * len(results), selftest.report
    return [out for _, out in results]


def counter(selftest: Simulator) -> DeviceArray:
    return selftest.array(np.zeros(1, np.uint32))


# ---- What a GPU does ----


def test_shared_memory_and_barrier(selftest, schedule):
    status, out = run(selftest, "reverse", schedule)
    assert status == 0, selftest.report
    np.testing.assert_array_equal(out, INPUT[::-1])


def test_collectives(selftest, schedule):
    selftest.schedule(*schedule)
    out = selftest.empty((THREADS, 12), "int32")
    assert selftest.functions.selftest_collectives(out.address) == 0, selftest.report
    i = np.arange(THREADS)
    lane, first = i % 32, i // 32 * 32
    ballot = sum(1 << int(b) for b in range(32) if b % 3 == 0)
    expected = [
        np.where(lane + 3 < 32, i + 3, i),
        np.where(lane >= 3, i - 3, i),
        i ^ 5,
        first + 9,
        np.where(lane % 8 + 3 < 8, i + 3, i),
        np.full(THREADS, ballot),
        np.ones(THREADS),
        np.zeros(THREADS),
        np.full(THREADS, len(range(0, THREADS, 5))),
        np.ones(THREADS),
        np.zeros(THREADS),
        np.where(lane < 16, i ^ 1, i ^ 2),
    ]
    np.testing.assert_array_equal(out.get(), np.stack(expected, 1).astype(np.int32))


def test_atomics_of_blocks_beyond_those_resident(selftest, schedule):
    selftest.schedule(*schedule)
    selftest.set(multiprocessors=2, blocks_per_multiprocessor=1)
    blocks = 9
    counts = selftest.array(np.zeros(4, np.int32))
    assert selftest.functions.selftest_atomics(counts.address, blocks) == 0, selftest.report
    n = blocks * THREADS
    np.testing.assert_array_equal(counts.get(), [n * (n - 1) // 2, n - 1, 1, 1])


def test_every_thread_of_a_grid_of_three_axes_runs_once(selftest, schedule):
    selftest.schedule(*schedule)
    out = selftest.array(np.zeros(3 * 4 * 2 * 5 * 3 * 4, np.uint32))
    assert selftest.functions.selftest_places(out.address) == 0, selftest.report
    np.testing.assert_array_equal(out.get(), np.ones(out.shape))


def test_a_barrier_of_the_grid_where_blocks_are_resident_together(selftest, schedule):
    selftest.schedule(*schedule)
    selftest.set(multiprocessors=3, blocks_per_multiprocessor=2)
    brought, out, arrivals = selftest.empty(6), selftest.empty(6), counter(selftest)
    run_grid = selftest.functions.selftest_grid_barrier
    assert run_grid(brought.address, out.address, arrivals.address, 6) == 0, selftest.report
    np.testing.assert_array_equal(out.get(), np.full(6, 21.0))


def test_same_seed_same_order(selftest):
    def switches(order: str, seed: int) -> int:
        selftest.reset()
        selftest.schedule(order, seed)
        counts = selftest.array(np.zeros(4, np.int32))
        selftest.functions.selftest_atomics(counts.address, 4)
        return selftest.counts.switches

    assert switches("random", 5) == switches("random", 5)
    assert len({switches("random", seed) for seed in range(8)}) > 1


def test_stacks_are_used_again(selftest):
    assert selftest.functions.selftest_many_barriers(4, 256, 2) == 0
    stacks = selftest.counts.stacks
    assert stacks >= 4 * 256
    for _ in range(3):
        assert selftest.functions.selftest_many_barriers(4, 256, 2) == 0
    assert selftest.counts.stacks == stacks


# ---- Bugs that a launch reports, with their place ----

REPORTED = {
    "divergent_barrier": r"divergent barrier: __syncthreads at kernels.cu:\d+, "
    r"while other threads of the block wait at kernels.cu:\d+",
    "lane_not_there": r"lane \d+ has ended|the thread ended, while lane \d+ of its warp waits",
    "lane_not_in_mask": r"with mask 0x0000ffff at kernels.cu:\d+: "
    r"lane 16, which is read, is not in the mask",
    "masks_disagree": r"lane \d+ waits with mask 0x[7f]fffffff|the mask lacks the calling lane|"
    r"lane \d+, which is read, is not in the mask",
    "deadlock": r"deadlock:\n  block \(0, 0, 0\) thread \(0, 0, 0\) waits in __syncwarp "
    r"at kernels.cu:\d+(.|\n)*__syncthreads at kernels.cu:\d+\n  128 threads wait in all",
}


@pytest.mark.parametrize("name", REPORTED)
def test_reported_with_kernel_block_thread_and_line(selftest, schedule, name):
    status, _ = run(selftest, name, schedule)
    assert status == 719  # cudaErrorLaunchFailure
    place = rf"kernel fusednn::cuda::{name}_kernel, block \(0, 0, 0\) thread \(\d+, 0, 0\): "
    assert_matches(place + rf"(.|\n)*({REPORTED[name]})", selftest.report)


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), f"{pattern!r} is not in:\n{text}"


def test_a_barrier_of_more_blocks_than_arrive_is_a_livelock(selftest, schedule):
    selftest.schedule(*schedule)
    arrivals = counter(selftest)
    assert selftest.functions.selftest_livelock(arrivals.address, 4) == 719
    assert_matches(r"livelock(.|\n)*waits in __syncthreads at kernels.cu:\d+", selftest.report)


def test_a_launch_after_one_that_failed(selftest, schedule):
    run(selftest, "deadlock", schedule)
    status, out = run(selftest, "reverse", schedule)
    assert status == 0
    np.testing.assert_array_equal(out, INPUT[::-1])


def test_a_cooperative_launch_that_is_too_large(selftest):
    selftest.set(multiprocessors=3, blocks_per_multiprocessor=2)
    arrivals = counter(selftest)
    assert selftest.functions.selftest_livelock(arrivals.address, 7) == 720
    assert_matches(
        "the device holds 6 such blocks of a cooperative launch. Received: .7, 1, 1",
        selftest.report,
    )
    selftest.set(cooperative=0)
    assert selftest.functions.selftest_livelock(arrivals.address, 1) == 801


def test_limits_of_a_launch(selftest):
    out = selftest.empty(2000)
    assert selftest.functions.selftest_fill(out.address, 1, 1025) == 9
    assert selftest.functions.selftest_fill(out.address, 0, 32) == 9
    x = selftest.array(INPUT)
    assert selftest.functions.selftest_reverse(x.address, out.address, THREADS, 228 * 1024) == 1


# ---- Bugs that show in the results ----


def test_a_missing_barrier_shows_in_some_order(selftest):
    # The thread that is read had not written yet: the poison.
    assert any(np.isnan(out).any() for out in outputs(selftest, "missing_barrier"))
    assert any(np.isnan(out).any() for out in outputs(selftest, "missing_syncwarp"))


def test_shared_memory_reused_too_early_shows_in_some_order(selftest):
    right = 2 * INPUT[::-1] + 1
    wrong = [not np.array_equal(out, right) for out in outputs(selftest, "reused_too_early")]
    assert any(wrong)


@pytest.mark.parametrize("name", ["no_grid_barrier", "arrives_too_early"])
def test_a_missing_barrier_of_the_grid_shows_in_some_order(selftest, name):
    if selftest.sanitizer == "thread":
        pytest.skip("a test of its own is about what the thread sanitizer says of races")
    shows = False
    for schedule in SCHEDULES:
        selftest.schedule(*schedule)
        brought, out, arrivals = selftest.empty(8), selftest.empty(8), counter(selftest)
        run_grid = getattr(selftest.functions, f"selftest_{name}")
        assert run_grid(brought.address, out.address, arrivals.address, 8) == 0, selftest.report
        shows |= bool(np.isnan(out.get()).any())
    assert shows


def test_uninitialised_shared_memory_is_nan(selftest, schedule):
    status, out = run(selftest, "uninitialised", schedule)
    assert status == 0
    assert np.isnan(out).all()


def test_fresh_memory_of_the_device_is_nan(selftest):
    assert np.isnan(selftest.empty(7, "float64").get()).all()


# ---- Out of bounds ----

BY_GUARDS = {
    "shared_overrun": (719, "written past the block's 512 bytes of shared memory"),
    "global_overrun": (700, "written past an allocation of 512 bytes"),
}


@pytest.mark.parametrize("name", BY_GUARDS)
def test_writing_out_of_bounds(selftest, schedule, name):
    if selftest.sanitizer == "address":
        output = in_a_process_of_its_own(selftest, name, schedule)
        assert_matches(f"AddressSanitizer(.|\n)*{name}_kernel", output)
        return
    expected, words = BY_GUARDS[name]
    status, _ = run(selftest, name, schedule)
    assert status == expected
    assert words in selftest.report


def in_a_process_of_its_own(selftest: Simulator, name: str, schedule: tuple[str, int]) -> str:
    """Run a kernel where the address sanitizer ends the process; return all that was printed."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; import test_simulator as t\n"
        f"status, _ = t.run(t.Simulator(Path({str(selftest.path)!r})), {name!r}, {schedule!r})\n"
        "print('status', status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


RACES = ["missing_barrier", "reused_too_early", "missing_syncwarp"]


@pytest.mark.parametrize("name", RACES)
@pytest.mark.parametrize("order", ["fifo", "starve"])
def test_the_thread_sanitizer_sees_races_in_any_order(selftest, order, name):
    if selftest.sanitizer != "thread":
        pytest.skip("the simulator was built without the thread sanitizer")
    run(selftest, name, (order, 3))
    assert_matches(rf"data race(.|\n)*{name}_kernel", selftest.races())


# ---- The runtime API ----


def test_faults(selftest):
    selftest.set(fail_allocation=2)
    assert selftest.empty(4).pointer
    assert not selftest.empty(4).pointer
    assert selftest.empty(4).pointer
    out = selftest.empty(64)
    selftest.set(fail_launch=1)
    assert selftest.functions.selftest_fill(out.address, 1, 64) == 701
    assert selftest.functions.selftest_fill(out.address, 1, 64) == 0


def test_no_device_and_an_old_driver(selftest):
    out = selftest.empty(64)
    selftest.set(devices=0)
    assert selftest.functions.selftest_fill(out.address, 1, 64) == 100
    selftest.reset()
    selftest.set(driver=12000)
    assert selftest.functions.selftest_device_count() == -35


def raw(array: DeviceArray) -> np.ndarray:
    """What is there now, without waiting for the device."""
    return np.frombuffer(ctypes.string_at(array.pointer, array.nbytes), array.dtype)


def test_deferred_work_is_done_when_the_host_waits(selftest):
    out = selftest.empty(64)
    selftest.set(deferred=1)
    assert selftest.functions.selftest_fill(out.address, 1, 64) == 0
    assert np.isnan(raw(out)).all()
    assert selftest.functions.selftest_synchronize() == 0
    np.testing.assert_array_equal(raw(out), np.ones(64))
    assert selftest.counts.synchronisations == 1


def test_an_error_of_deferred_work_comes_when_the_host_waits(selftest):
    selftest.set(deferred=1)
    arrivals = counter(selftest)
    assert selftest.functions.selftest_livelock(arrivals.address, 2) == 0
    assert selftest.functions.selftest_synchronize() == 719
    assert "livelock" in selftest.report


def test_memory_changed_before_a_copy_has_read_it(selftest):
    out = selftest.empty(1)
    assert selftest.functions.selftest_overwritten_upload(out.address) == 0
    assert out.get() == 1
    selftest.set(deferred=1)
    assert selftest.functions.selftest_overwritten_upload(out.address) == 0
    assert out.get() == 2


def test_a_captured_graph_is_replayed(selftest):
    counts = selftest.array(np.zeros(4, np.int32))
    with selftest.capture():
        assert selftest.functions.selftest_atomics(counts.address, 1) == 0
        assert selftest.functions.selftest_synchronize() == 900
    np.testing.assert_array_equal(counts.get(), np.zeros(4))
    selftest.replay()
    selftest.replay()
    assert counts.get()[0] == THREADS * (THREADS - 1)


def test_memory_is_counted(selftest):
    before = selftest.counts.live_allocations
    held = selftest.empty(5)
    assert selftest.counts.live_allocations == before + 1
    del held
    assert selftest.counts.live_allocations == before


def test_copies_beyond_an_allocation_are_refused(selftest):
    x = selftest.array(INPUT)
    host = np.empty(THREADS + 1, np.float32)
    assert selftest.functions.gpusim_read(host.ctypes.data, x.pointer, host.nbytes) == 1
    assert "lie not in one allocation" in selftest.report
