"""The parent's end of a library's process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import IO, Any

#: Of what a process wrote to standard error, so much is told when it fails: characters.
_TAIL = 300
#: What keeps a library to its number of threads, beside the CPUs that its process may use.
_THREAD_VARIABLES = (
    "FUSEDNN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


class LibraryError(Exception):
    """The process ended, or did not answer in time; the text has the end of its errors."""


class Library:
    """A process in which one library's contenders run, with a fixed number of threads.

    The process may only use as many CPUs as it has threads, so that whatever pools a library has,
    none gets more; and because libraries do not share a process, no thread that spins for more
    work disturbs another's turn.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        # The last CPUs: the first ones tend to serve the system.
        cpus = sorted(os.sched_getaffinity(0))[-self.threads :]
        env = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        env |= {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": self.name.rpartition("_")[2]}
        command = ["-m", "fusednn.benchmarks.worker", self.name, ",".join(map(str, cpus))]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        return subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=env,
        )

    def ask(self, do: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the reply; the process is started on the first one.

        Raises
        ------
        LibraryError
            If it does not answer within `timeout` seconds, or ended. The next request starts anew.
        """
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write((json.dumps({"do": do, **arguments}) + "\n").encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], timeout)
            line = process.stdout.readline() if ready else None
        except BrokenPipeError:
            line = b""
        if not line:
            took = "did not answer" if line is None else "ended"
            self._end()
            said = self._error_tail()
            self.close()
            raise LibraryError(f"the process {took} within {timeout:g} s{said}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _error_tail(self) -> str:
        assert self._errors is not None
        self._errors.seek(max(self._errors.seek(0, os.SEEK_END) - 4 * _TAIL, 0))
        text = " ".join(self._errors.read().decode(errors="replace").split())
        return f"; it wrote: ...{text[-_TAIL:]}" if text else ""

    def close(self) -> None:
        """End the process."""
        self._end()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
