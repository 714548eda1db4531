"""The contenders of one library, in the process of that library."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from fusednn.benchmarks import bandwidth, inputs
from fusednn.benchmarks.catalogue import case_named
from fusednn.benchmarks.contender import Contender
from fusednn.benchmarks.inputs import UnavailableError
from fusednn.benchmarks.peers import PEERS

#: Runs beyond this are not repeated to warm up.
_SLOW = 0.02
#: Seconds that a turn begins with, not counted, where runs are long; runs beyond the second number
#: are so long that it does not matter.
_AWAKE, _VERY_SLOW = 0.05, 0.25
#: Bytes; less may wait for Python's own collection: one beside large libraries takes 0.1 s.
_WORTH_COLLECTING = 1 << 24
#: Threads that still spin for work are waited for, so long at most.
_LONGEST_SPIN = 0.2


class Workbench:
    """Builds, checks and times; every method's result can be written as JSON."""

    def __init__(self, library: str) -> None:
        self.library = library
        self.contenders: dict[str, Contender] = {}
        self.seconds: dict[str, float] = {}
        self._traffic = 0
        self._modules: dict[str, Any] = {}

    def prepare(self, case: str, name: str, answer: str) -> dict[str, Any]:
        """Build a contender, and write its answer to the file `answer`.

        Returns
        -------
        dict
            ``status``: "ready", "absent" or "failed"; ``reason`` for the latter two, else
            ``reuses``, ``checked`` and ``note``.
        """
        chosen = case_named(case)
        self._traffic = chosen.traffic
        try:
            module = self._module(chosen.family)
            contender: Contender = module.build(chosen, name)
            arrays: dict[str, Any] = dict(contender.answer())
            np.savez(answer, **arrays)
        except UnavailableError as reason:
            return {"status": "absent", "reason": str(reason)}
        except Exception as error:
            # Whatever a peer cannot do must not end the run.
            text = " ".join(str(error).split())
            return {"status": "failed", "reason": f"{type(error).__name__}: {text[:300]}"}
        # What only the answer needed is freed; inputs too, where no other contender shares them.
        self.contenders[name] = replace(contender, answer=dict)
        process = next(peer.process for peer in PEERS if peer.name == name)
        if sum(peer.process == process for peer in PEERS) == 1:
            inputs.forget()
        return {
            "status": "ready",
            "reuses": contender.reuses,
            "checked": contender.checked,
            "note": contender.note,
        }

    def _module(self, family: str) -> Any:
        name = f"fusednn.benchmarks.peers.{self.library}_{family}"
        if name not in self._modules:
            self._modules[name] = import_module(name)
            if not self.contenders:
                # What libraries bring stays: collecting after each case need not look through it.
                gc.collect()
                gc.freeze()
        return self._modules[name]

    def prepare_pass(self, name: str, size: int) -> dict[str, Any]:
        """Build and warm up a pass over memory; returns ``seconds`` of one run."""
        self.contenders[name] = bandwidth.build(name, size)
        self._traffic = size
        return self.warm_up(name)

    def warm_up(self, name: str) -> dict[str, Any]:
        """Run a contender until its times settle; returns ``seconds`` of one run."""
        contender = self.contenders[name]
        seconds = float("inf")
        with contender.surroundings():
            for runs, longest in ((1, float("inf")), (1, 5 * _SLOW), (10, _SLOW), (100, _SLOW)):
                if runs * seconds > longest:
                    break
                seconds = min(seconds, _seconds(contender, runs) / runs)
        self._settle()
        self.seconds[name] = seconds
        return {"seconds": seconds}

    def time(self, name: str, calls: int, batch: int) -> dict[str, Any]:
        """Take a turn: `calls` times the seconds per run, each over `batch` runs."""
        contender = self.contenders[name]
        gc.disable()
        try:
            with contender.surroundings():
                seconds = self._turn(contender, calls, batch, self.seconds[name])
        finally:
            gc.enable()
        self._settle()
        return {"seconds": seconds}

    @staticmethod
    def _turn(contender: Contender, calls: int, batch: int, expected: float) -> list[float]:
        clock = time.perf_counter
        # Brings code, data and threads back, not counted. Threads that slept may all wake on one
        # CPU, and it takes the system 50 ms to spread them: the first one to run would pay for it.
        end = clock() + _AWAKE
        if expected < _VERY_SLOW:
            _seconds(contender, min(batch, 10))
            while batch == 1 and clock() < end:
                _seconds(contender, 1)
        return [_seconds(contender, batch) / batch for _ in range(calls)]

    @staticmethod
    def _settle() -> None:
        """Wait until this process uses no CPU any more: the next turn is another's."""
        end = time.monotonic() + _LONGEST_SPIN
        while time.monotonic() < end:
            used = time.process_time()
            time.sleep(0.002)
            if time.process_time() - used < 0.0004:
                return

    def release(self) -> dict[str, Any]:
        """Forget the contenders and their arrays."""
        self.contenders.clear()
        self.seconds.clear()
        inputs.forget()
        if self._traffic > _WORTH_COLLECTING:
            gc.collect()
        return {}

    def versions(self) -> dict[str, str]:
        """Return the versions of what is imported and matters."""
        import sys

        names = ("numpy", "torch", "jax", "jaxlib", "optax", "keras", "sklearn", "ml_dtypes")
        return {
            name: str(sys.modules[name].__version__)
            for name in names
            if hasattr(sys.modules.get(name), "__version__")
        }


def _seconds(contender: Contender, runs: int) -> float:
    """Take the time of some runs, without what comes before each."""
    run, before, finish, clock = (
        contender.run,
        contender.before,
        contender.finish,
        time.perf_counter,
    )
    if before is None:
        start = clock()
        for _ in range(runs):
            run()
        finish()
        return clock() - start
    seconds = 0.0
    for _ in range(runs):
        before()
        start = clock()
        run()
        finish()
        seconds += clock() - start
    return seconds
