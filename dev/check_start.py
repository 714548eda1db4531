"""Check how long ``fusednn train digits`` takes from its start to its first epoch.

Each run is a fresh process, and the least of several counts, as a shared machine may only make one
longer. scikit-learn's file of digits must be there; its packages need not.
"""

import argparse
import subprocess
import sys
import time

#: Runs the command as the script does, says when the first epoch begins, and ends there.
PROGRAM = """
import os, sys, time
from fusednn.cli import main
from fusednn.models import Sequential
def begun(self, *rest):
    print("begun", time.time(), flush=True)
    os._exit(0)
Sequential._run_epoch = begun
main(["train", "digits"])
"""


def seconds_to_first_epoch() -> float:
    start = time.time()
    command = [sys.executable, "-P", "-c", PROGRAM]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    last = run.stdout.splitlines()[-1].split()
    if last[0] != "begun":
        raise RuntimeError(f"no epoch began: {run.stdout}{run.stderr}")
    return float(last[1]) - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-seconds", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    seconds_to_first_epoch()  # reads the files from disk, and compiles them
    least = min(seconds_to_first_epoch() for _ in range(options.runs))
    print(f"check_start: {least:.2f} s to the first epoch, must be under {options.max_seconds} s")
    return 1 if least >= options.max_seconds else 0


if __name__ == "__main__":
    sys.exit(main())
