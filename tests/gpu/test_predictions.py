"""The page's predictions are the benchmarks' bytes at its rate; nothing runs on a GPU here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
RATE = 4.3  # TB/s


def page_rows() -> list[tuple[str, str, str, str, str]]:
    """Kernel, array, type, megabytes and microseconds; what is empty is as in the row before."""
    table = (ROOT / "docs/cuda.md").read_text().partition("predicted us |\n")[2]
    rows, last = [], ["", "", ""]
    for line in table.partition("\n\n")[0].splitlines()[1:]:
        kernel, array, dtype, _, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        last = [new or old for new, old in zip((kernel, array, dtype), last, strict=True)]
        rows.append((*last, *numbers))
    return rows


def test_page_says_what_the_benchmarks_predict():
    command = [sys.executable, str(ROOT / "benchmarks/gpu"), "--predict", str(RATE)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    predicted = {
        found[1]: (found[2], found[3])
        for line in said.splitlines()
        if (found := re.fullmatch(r"(.*\S)\s+([\d,]+)\s+([\d,]+)", line))
    }
    compared = 0
    for kernel, array, dtype, *numbers in page_rows():
        if kernel.startswith("BatchNorm"):
            way = kernel.removeprefix("BatchNorm ")
            name = f"batch_norm {array.replace(' ', '')} NCHW {dtype} {way}"
        elif kernel == "Adam" and "2^30" in array:
            name = "adam 1B in 16 tensors"
        elif kernel == "RMSProp, momentum" and "2^30" in array:
            name = "rmsprop 1B in 16 tensors"
        else:
            continue  # lists of other lengths, and what is no case
        assert predicted[name] == tuple(numbers), name
        compared += 1
    assert compared == 12
