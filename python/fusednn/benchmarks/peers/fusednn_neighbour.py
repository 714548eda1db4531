"""fusednn's work while another process keeps a CPU busy, on all threads and on one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import fusednn
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.inputs import UnavailableError

_SPIN = "import os; os.sched_setaffinity(0, [{cpu}]); print(flush=True)\nwhile True: pass"


def build(case: Case, name: str) -> Contender:
    """Return the contender: with the neighbour, with it on one thread, or alone."""
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        raise UnavailableError("a neighbour takes one of two CPUs or more")
    work = case.under_test
    module = import_module(f"fusednn.benchmarks.peers.fusednn_{work.family}")
    contender: Contender = module.build(work, "fusednn")
    if name == "fusednn-alone":
        return replace(contender, note="without the neighbour")
    one = name == "fusednn-one-thread"
    note = f"{'one thread' if one else 'all threads'}, a neighbour on one CPU"
    return replace(contender, surroundings=lambda: busy(max(cpus), one_thread=one), note=note)


@contextmanager
def busy(cpu: int, *, one_thread: bool) -> Iterator[None]:
    """Keep a CPU busy from another process meanwhile, and on wish use one thread only."""
    threads = fusednn.get_num_threads()
    command = [sys.executable, "-c", _SPIN.format(cpu=cpu)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            if one_thread:
                fusednn.set_num_threads(1)
            yield
        finally:
            fusednn.set_num_threads(threads)
            neighbour.kill()
