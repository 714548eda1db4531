"""A library's process: builds contenders and times them when told to.

Reads a request per line on standard input and writes a reply per line on standard output, both
JSON. Whatever else a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO


def main(library: str, cpus: list[int]) -> None:
    """Serve requests until standard input ends."""
    # Before anything is imported that counts CPUs or starts threads.
    os.sched_setaffinity(0, cpus)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from fusednn.benchmarks.workbench import Workbench

    serve(Workbench(library), sys.stdin, replies)


def serve(bench: Any, requests: TextIO, replies: TextIO) -> None:
    """Answer each request with what the method that it names returns."""
    for line in requests:
        request = json.loads(line)
        method = getattr(bench, request.pop("do"))
        replies.write(json.dumps(method(**request)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], [int(cpu) for cpu in sys.argv[2].split(",")])
