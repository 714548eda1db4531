"""The thread pool: how many threads, and that it is a good guest in any process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fusednn
import reference as ref
from fusednn import ops

VARIABLES = ("FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS")


def run(program: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, with none of our variables set but those given."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def printed(program: str, **environment: str) -> str:
    done = run(program, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNT = "import fusednn; print(fusednn.get_num_threads())"


def test_set_and_get(threads):
    assert fusednn.get_num_threads() == threads
    fusednn.set_num_threads(3)
    assert fusednn.get_num_threads() == 3


@pytest.mark.parametrize("n", [0, -1, 100_000])
def test_a_number_of_threads_is_positive(n):
    before = fusednn.get_num_threads()
    with pytest.raises(ValueError, match=rf"(?s)`n`.*{n}"):
        fusednn.set_num_threads(n)
    assert fusednn.get_num_threads() == before


@pytest.mark.parametrize("n", [2.5, "2", None])
def test_a_number_of_threads_is_an_integer(n):
    before = fusednn.get_num_threads()
    with pytest.raises(TypeError):
        fusednn.set_num_threads(n)
    assert fusednn.get_num_threads() == before


def test_the_variables_are_obeyed():
    assert printed(COUNT, FUSEDNN_NUM_THREADS="5") == "5"
    assert printed(COUNT, OMP_NUM_THREADS="1") == "1"
    assert printed(COUNT, FUSEDNN_NUM_THREADS="3", OMP_NUM_THREADS="1") == "3"


def test_an_explicit_setting_passes_over_the_variable_and_the_affinity():
    program = """
        import fusednn
        fusednn.set_num_threads(7)
        print(fusednn.get_num_threads())
    """
    assert printed(program, FUSEDNN_NUM_THREADS="2") == "7"


@pytest.mark.parametrize("value", ["0", "-2", "many", "2.5", "4x"])
def test_a_senseless_variable_stops_the_import(value):
    done = run(COUNT, FUSEDNN_NUM_THREADS=value)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert "FUSEDNN_NUM_THREADS" in last
    assert value in last


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_default_is_capped_by_the_affinity():
    program = f"""
        import os
        os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
        {COUNT}
    """
    assert printed(program) == "1"
    assert printed(program, FUSEDNN_NUM_THREADS="4") == "4"
    assert int(printed(COUNT)) <= len(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("used_before", [True, False])
def test_works_after_fork(used_before):
    """The child has none of the parent's threads: its pool starts anew, as does its own child's."""
    program = f"""
        import os, signal, sys
        import fusednn, numpy as np
        from fusednn import ops

        fusednn.set_num_threads(4)
        x = np.linspace(-3, 3, 2_000_000, dtype=np.float32)
        expected = np.where(x > 0, x, x * np.float32(0.01))
        if {used_before}:
            assert (ops.leaky_relu(x) == expected).all()

        def child(generation):
            signal.alarm(20)
            for _ in range(20):
                assert (ops.leaky_relu(x) == expected).all()
            assert fusednn.get_num_threads() == 4
            if generation:
                wait_for(generation - 1)

        def wait_for(generation):
            pid = os.fork()
            if pid == 0:
                try:
                    child(generation)
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            assert (ops.leaky_relu(x) == expected).all()
            assert os.waitpid(pid, 0)[1] == 0

        wait_for(1)
        assert (ops.leaky_relu(x) == expected).all()
        print("well")
    """
    assert printed(program) == "well"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_works_after_a_fork_in_the_middle_of_a_call():
    """One thread forks while another keeps the pool busy: no lock may stay held in the child."""
    program = """
        import os, signal, sys, threading
        import fusednn, numpy as np
        from fusednn import ops

        fusednn.set_num_threads(3)
        x = np.linspace(-3, 3, 1_000_000, dtype=np.float32)
        expected = ops.leaky_relu(x)
        stop = threading.Event()

        def work():
            y = np.empty_like(x)
            while not stop.is_set():
                ops.leaky_relu(x, out=y)

        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if (ops.leaky_relu(x) == expected).all() else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        worker.join()
        print("well")
    """
    assert printed(program) == "well"


def test_several_python_threads_at_once(threads, make):
    """Each call is right whether it finds the pool idle or busy; none waits for ever."""
    x = make.normal((8, 16, 4_096))
    gamma, beta = make.uniform((16,)), make.normal((16,))
    y, mean, inv_std = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
    exact = ref.batch_norm_forward(x, gamma, beta, negative_slope=0.1)[0]
    np.testing.assert_allclose(y, exact, atol=1e-5)
    start = threading.Barrier(6)

    def work(_):
        start.wait()
        for _ in range(20):
            got = ops.batch_norm_forward(x, gamma, beta, negative_slope=0.1)
            for a, b in zip(got, (y, mean, inv_std), strict=True):
                np.testing.assert_array_equal(a, b)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6), timeout=60))


def test_python_threads_of_which_one_changes_the_number(make):
    """Resizing the pool while others use it."""
    before = fusednn.get_num_threads()
    x = make.normal((500_000,))
    y = ops.leaky_relu(x)
    stop = threading.Event()

    def resize():
        n = 0
        while not stop.is_set():
            n = n % 5 + 1
            fusednn.set_num_threads(n)

    resizer = threading.Thread(target=resize)
    resizer.start()
    try:
        for _ in range(100):
            np.testing.assert_array_equal(ops.leaky_relu(x), y)
    finally:
        stop.set()
        resizer.join(30)
        fusednn.set_num_threads(before)
    assert not resizer.is_alive()


def test_errors_of_python_threads_do_not_mix(make):
    """The message of a failure belongs to the thread whose call failed."""
    x = make.normal((4, 3))

    def work(n):
        for _ in range(50):
            with pytest.raises(ValueError, match=rf"(?s)`gamma`.*\({n},\)"):
                ops.batch_norm_forward(x, np.ones(n, np.float32), None)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, (4, 5, 6, 7)))


def test_the_lock_of_python_is_released(make):
    """Python code runs while a kernel does."""
    x = make.normal((16, 1_000_000))
    y = np.empty_like(x)
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0)  # gives the lock away

    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody is asked to give the lock away
    ticker = threading.Thread(target=tick)
    try:
        ticker.start()
        for _ in range(5):
            ops.leaky_relu(x, out=y)
        seen = ticks[0]
    finally:
        sys.setswitchinterval(before)
        stop.set()
        ticker.join(30)
    assert seen > 0


@pytest.mark.parametrize("used_before", [True, False])
def test_the_process_ends_with_threads_at_work(used_before):
    """At exit a daemon thread neither hangs nor crashes, in its first call or a later one."""
    program = f"""
        import threading
        import fusednn, numpy as np
        from fusednn import ops

        fusednn.set_num_threads(4)
        x = np.ones(1_000_000, np.float32)
        if {used_before}:
            ops.leaky_relu(x)

        def work():
            while True:
                ops.leaky_relu(x)

        threading.Thread(target=work, daemon=True).start()
        ops.leaky_relu(x)
        print("well")
    """
    for _ in range(8):  # which of the two is first is chance
        assert printed(program) == "well"


def test_threadpoolctl():
    """In a process of its own: a registered controller cannot be taken back."""
    pytest.importorskip("threadpoolctl")
    program = """
        import fusednn, threadpoolctl

        fusednn.utils.register_threadpoolctl()
        fusednn.utils.register_threadpoolctl()
        fusednn.set_num_threads(3)

        def ours():
            found = [i for i in threadpoolctl.threadpool_info() if "libfusednn" in i["filepath"]]
            assert len(found) == 1, found
            return found[0]

        assert ours()["num_threads"] == 3
        assert ours()["version"] == fusednn.__version__
        with threadpoolctl.threadpool_limits(1):
            assert fusednn.get_num_threads() == 1
            assert ours()["num_threads"] == 1
        assert fusednn.get_num_threads() == 3
        with threadpoolctl.threadpool_limits({ours()["prefix"]: 2}):
            assert fusednn.get_num_threads() == 2
        print("well")
    """
    assert printed(program) == "well"


@pytest.mark.alone
def test_idle_threads_sleep_soon():
    """Between calls they spin for tens of microseconds, and then cost their neighbours nothing."""
    program = """
        import time
        import fusednn, numpy as np
        from fusednn import ops

        fusednn.set_num_threads(4)
        x = np.ones(1_000_000, np.float32)
        y = np.empty_like(x)
        ops.leaky_relu(x, out=y)
        used = []
        for _ in range(50):
            ops.leaky_relu(x, out=y)
            before = time.process_time()
            time.sleep(0.01)
            used.append(time.process_time() - before)
        print(sorted(used)[25])
    """
    # Of 10 ms, and of most pauses: where other work delays a thread, it spins in a later one.
    assert float(printed(program)) < 1e-3


NEIGHBOUR = """
    import os, time

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print("busy", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pass
"""


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize("step", ["leaky_relu", "adam_step"])
def test_a_neighbour_that_takes_a_core_slows_nobody(step):
    """Two threads, of which one may not get to run: as fast as one, for as much processor time.

    A call takes 0.1 ms, and a thread without a CPU gets one after some milliseconds: whoever waited
    for it would take ten times as long. What is lost otherwise, by waking threads and handing over
    tasks, is less than a third. Other work on the machine can only make that more: the best of
    several tries counts.
    """
    program = f"""
        import time
        import fusednn, numpy as np
        from fusednn import ops

        p, g, m, v = (np.ones(500_000, np.float32) for _ in range(4))
        calls = {{
            "leaky_relu": lambda: ops.leaky_relu(p, out=m),
            "adam_step": lambda: ops.adam_step([p], [g], [m], [v], step=1, lr=1e-6),
        }}
        call = calls["{step}"]
        times, used = ([], []), [0.0, 0.0]
        for _ in range(10):
            for i, threads in enumerate((1, 2)):
                fusednn.set_num_threads(threads)
                call()  # starts them
                for _ in range(20):
                    cpu, wall = time.process_time(), time.perf_counter()
                    call()
                    times[i].append(time.perf_counter() - wall)
                    used[i] += time.process_time() - cpu
        one, two = map(np.median, times)
        print(two / one, used[1] / used[0])
    """
    neighbour = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NEIGHBOUR)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert neighbour.stdout.readline() == "busy\n"
        for _ in range(5):
            slower, costlier = map(float, printed(program).split())
            assert neighbour.poll() is None
            if slower < 1.3 and costlier < 1.3:
                break
    finally:
        neighbour.kill()
        neighbour.communicate()
    assert slower < 1.3
    assert costlier < 1.3
