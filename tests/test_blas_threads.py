"""NumPy's products on the kernels' threads: the same bits, in any process, and back again."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import fusednn
from fusednn import _core, blas_threads, openblas, ops
from fusednn.utils import share_blas_threads

needs_openblas = pytest.mark.skipif(
    not blas_threads.can_share_blas_threads(), reason="NumPy's BLAS cannot share threads"
)


@pytest.fixture
def shared() -> Iterator[None]:
    assert share_blas_threads()
    yield
    assert not share_blas_threads(False)


def printed(program: str) -> str:
    """What a fresh interpreter prints that shares its threads, two unless it says otherwise."""
    begin = """
        import fusednn, os, signal, sys, threading, time
        import numpy as np
        from fusednn import ops

        fusednn.set_num_threads(2)
        a = np.random.default_rng(1).standard_normal((300, 784)).astype(np.float32)
        b = np.random.default_rng(2).standard_normal((784, 200)).astype(np.float32)
        assert fusednn.utils.share_blas_threads()
        product = a @ b
    """
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore::DeprecationWarning", "-c"),
            textwrap.dedent(begin) + textwrap.dedent(program),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def blas_num_threads() -> int:
    found = blas_threads._find_openblas()
    assert not isinstance(found, str)
    return found.num_threads


@needs_openblas
def test_shared_and_back():
    assert share_blas_threads()
    assert share_blas_threads()
    assert not share_blas_threads(False)
    assert not share_blas_threads(False)


@needs_openblas
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(97, 300, 784), (32, 100, 100), (1, 700, 1000), (512, 512, 7)])
def test_the_same_bits(make, threads, shape, dtype):
    rows, inner, columns = shape
    a, b = make.normal((rows, inner), dtype), make.normal((inner, columns), dtype)
    before = blas_num_threads()
    assert share_blas_threads()
    try:
        assert blas_num_threads() == threads
        products = a @ b, b.T @ a.T, a @ b[:, 0]
        # The same on threads of OpenBLAS' own.
        blas_threads._find_openblas().set_callback(None)
        expected = a @ b, b.T @ a.T, a @ b[:, 0]
    finally:
        share_blas_threads(False)
    for product, right in zip(products, expected, strict=True):
        np.testing.assert_array_equal(product, right)
    assert blas_num_threads() == before


@needs_openblas
def test_openblas_follows_the_number_of_threads(threads, shared):
    assert blas_num_threads() == threads
    fusednn.set_num_threads(3)
    assert blas_num_threads() == 3
    fusednn.set_num_threads(1)
    assert blas_num_threads() == 1


@needs_openblas
def test_openblas_gets_its_number_of_threads_back(threads):
    before = blas_num_threads()
    share_blas_threads()
    fusednn.set_num_threads(7)
    assert blas_num_threads() == 7
    share_blas_threads(False)
    assert blas_num_threads() == before
    fusednn.set_num_threads(6)
    assert blas_num_threads() == before


@needs_openblas
def test_threadpoolctl_sets_both():
    pytest.importorskip("threadpoolctl")
    program = """
        import threadpoolctl

        fusednn.utils.register_threadpoolctl()
        with threadpoolctl.threadpool_limits(1, user_api="fusednn"):
            counts = {i["user_api"]: i["num_threads"] for i in threadpoolctl.threadpool_info()}
        print(counts["blas"], counts["fusednn"])
    """
    assert printed(program) == "1 1"


@pytest.mark.alone
@needs_openblas
def test_after_a_product_no_thread_spins():
    """OpenBLAS' own threads would use a core for a tenth of a second."""
    program = """
        for _ in range(50):  # those it has already fall asleep
            a @ b
            time.sleep(0.01)
        used = 0.0
        for _ in range(50):
            a @ b
            before = time.process_time()
            time.sleep(0.01)
            used += time.process_time() - before
        print(used / 50)
    """
    assert float(printed(program)) < 1e-3  # of 10 ms


@pytest.mark.alone
@needs_openblas
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_neighbour_does_not_put_threads_to_sleep():
    """A thread that sleeps between two products would get its core back milliseconds later."""
    program = """
        from fusednn import Input, Sequential, layers

        model = Sequential([Input((784,))])
        for width in (300, 100):
            model.add(layers.Dense(width))
            model.add(layers.BatchNormalization())
            model.add(layers.LeakyReLU(0.1))
        model.add(layers.Dense(10))
        model.compile("adam", "mse")
        x, y = np.ones((32, 784), np.float32), np.ones((32, 10), np.float32)

        def median():
            times = []
            for _ in range(60):
                start = time.perf_counter()
                model.train_on_batch(x, y)
                times.append(time.perf_counter() - start)
            return np.median(times)

        shared = median()
        fusednn.utils.share_blas_threads(False)
        print(shared / median())
    """
    busy = "import os; os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", busy])
    try:
        slower = float(printed(program))
        assert neighbour.poll() is None
    finally:
        neighbour.kill()
        neighbour.wait()
    assert slower < 5


@needs_openblas
def test_products_and_kernels_of_several_python_threads(threads, shared, make):
    """The pool is idle, busy with a kernel or with a product: every answer is right."""
    a, b = make.normal((128, 300)), make.normal((300, 200))
    x = make.normal((400_000,))
    product, y = a @ b, ops.leaky_relu(x)
    start = threading.Barrier(6)

    def work(i):
        start.wait()
        for _ in range(8):
            if i % 3:
                np.testing.assert_array_equal(a @ b, product)
            else:
                np.testing.assert_array_equal(ops.leaky_relu(x), y)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6), timeout=60))


@needs_openblas
def test_python_threads_of_which_one_changes_the_number(shared, make):
    before = fusednn.get_num_threads()
    a, b = make.normal((128, 300)), make.normal((300, 200))
    stop = threading.Event()

    def resize():
        n = 0
        while not stop.is_set():
            n = n % 4 + 1
            fusednn.set_num_threads(n)

    resizer = threading.Thread(target=resize)
    resizer.start()
    try:
        for _ in range(40):
            np.testing.assert_allclose(a @ b, a.astype(np.float64) @ b, atol=1e-3)
    finally:
        stop.set()
        resizer.join(30)
        fusednn.set_num_threads(before)
    assert not resizer.is_alive()


@needs_openblas
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_products_work_after_fork():
    program = """
        def child(generation):
            signal.alarm(20)
            for _ in range(20):
                assert (a @ b == product).all()
            if generation:
                wait_for(generation - 1)
            assert not fusednn.utils.share_blas_threads(False)
            # On as many threads as OpenBLAS had, which round in another way.
            assert np.allclose(a @ b, product, rtol=1e-4, atol=1e-3)

        def wait_for(generation):
            pid = os.fork()
            if pid == 0:
                try:
                    child(generation)
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            assert (a @ b == product).all()
            assert os.waitpid(pid, 0)[1] == 0

        wait_for(1)
        assert (a @ b == product).all()
        print("well")
    """
    assert printed(program) == "well"


@needs_openblas
def test_the_process_ends_with_a_product_at_work():
    program = """
        def work():
            while True:
                a @ b

        threading.Thread(target=work, daemon=True).start()
        for _ in range(20):
            assert (a @ b == product).all()
        print("well")
    """
    for _ in range(3):
        assert printed(program) == "well"


@needs_openblas
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize("cpus", ["all", "one"])
def test_threads_keep_their_affinity(cpus):
    """A worker that leaves its caller's CPU may run afterwards wherever it might before."""
    program = f"""
        y = np.ones(400_000, np.float32)

        def masks():
            ids = [int(name) for name in os.listdir("/proc/self/task")]
            return {{frozenset(os.sched_getaffinity(i)) for i in ids}}

        allowed = os.sched_getaffinity(0)
        if "{cpus}" == "one":
            allowed = {{min(allowed)}}
            for name in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(name), allowed)
        for _ in range(100):
            a @ b
            ops.leaky_relu(y)
        assert masks() == {{frozenset(allowed)}}
        print("well")
    """
    assert printed(program) == "well"


JOB = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
RUN_JOBS = ctypes.CFUNCTYPE(
    None, ctypes.c_int, JOB, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_jobs_run_at_the_same_time(threads, count):
    """Each waits for all others, and has its own data."""
    run_jobs = RUN_JOBS(_core.run_jobs_address())
    meeting = threading.Barrier(max(count, 1))
    data = (ctypes.c_int * (3 * max(count, 1)))()

    @JOB
    def job(index, address, context):
        meeting.wait(20)
        ctypes.cast(address, ctypes.POINTER(ctypes.c_int))[0] = 100 * context + index

    run_jobs(1, job, count, 3 * ctypes.sizeof(ctypes.c_int), ctypes.addressof(data), 5)
    assert not meeting.broken
    assert list(data)[: 3 * count : 3] == [500 + i for i in range(count)]


def test_jobs_inside_a_job(threads):
    run_jobs = RUN_JOBS(_core.run_jobs_address())
    meeting = threading.Barrier(3)
    seen = []

    @JOB
    def inner(index, address, context):
        meeting.wait(20)
        seen.append(index)

    @JOB
    def outer(index, address, context):
        if index == 0:
            run_jobs(1, inner, 3, 0, None, 0)

    run_jobs(1, outer, 2, 0, None, 0)
    assert sorted(seen) == [0, 1, 2]


def test_jobs_of_several_threads_take_turns(threads):
    """An index is one job's alone, for OpenBLAS keeps buffers by it."""
    run_jobs = RUN_JOBS(_core.run_jobs_address())
    running, twice = [0] * 3, []
    lock = threading.Lock()

    @JOB
    def job(index, address, context):
        with lock:
            running[index] += 1
            twice.append(running[index] > 1)
        for _ in range(100):
            pass
        with lock:
            running[index] -= 1

    def work(_):
        for _ in range(20):
            run_jobs(1, job, 3, 0, None, 0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4), timeout=60))
    assert len(twice) == 4 * 20 * 3
    assert not any(twice)


def function(result):
    """Like a C function: a result, and attributes that can be set."""

    def call(*_):
        return result

    return call


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ({}, r"Received: .*\d"),
        ({"openblas_set_num_threads64_": function(None)}, r"Received: .*\d"),
        ({"openblas_get_parallel64_": function(0)}, "Received: an OpenBLAS without threads"),
        ({"openblas_get_parallel64_": function(2)}, "Received: an OpenBLAS for OpenMP"),
    ],
    ids=["another", "old", "sequential", "openmp"],
)
def test_another_blas_is_told(functions, reason, monkeypatch):
    if "openblas_get_parallel64_" in functions:
        for name in ("set_threads_callback_function", "set_num_threads", "get_num_threads"):
            functions = functions | {f"openblas_{name}64_": function(1)}
    monkeypatch.setattr(openblas, "library", lambda: SimpleNamespace(**functions))
    assert not blas_threads.can_share_blas_threads()
    with pytest.warns(RuntimeWarning, match=rf"OpenBLAS 0\.3\.28 or later.*{reason}"):
        assert not share_blas_threads()
    assert not share_blas_threads(False)
