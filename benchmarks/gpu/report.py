"""What a run says: a table for people, JSON for later."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import Case, Result

import fusednn
from fusednn import _core
from fusednn.benchmarks.machine import commit


def device_facts(torch: Any, stands_in: bool) -> dict[str, Any]:
    """GPU, driver, versions, date and commit."""
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "fusednn": fusednn.__version__,
        "torch": str(torch.__version__),
    }
    if stands_in:
        return facts | {"device": "none: a dry run on the CPU, whose times mean nothing"}
    driver, runtime = _core.cuda_versions()
    name, capability, multiprocessors, memory = _core.cuda_describe(0)
    return facts | {
        "device": name,
        "capability": capability,
        "multiprocessors": multiprocessors,
        "memory": memory,
        "l2": int(torch.cuda.get_device_properties(0).L2_cache_size),
        "cuda": {"driver supports": driver, "kernels": runtime, "torch": str(torch.version.cuda)},
        "driver": _driver(),
        "cudnn": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", "0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown: {error}"


def ceiling_of(results: Sequence[Result]) -> float:
    """Bytes a second of the faster of our own copies of the largest arrays; 0 without one."""
    copies = [result for result in results if result.case.startswith("copy ")]
    if not copies:
        return 0.0
    largest = max(copies, key=lambda result: result.bytes_bound)
    own = [time for name, time in largest.times.items() if name.startswith("fusednn")]
    return max((time["bytes"] / time["median"] for time in own), default=0.0)


def table(results: Sequence[Result]) -> list[str]:
    """A line for each contender: microseconds, spread, bytes a second, share of the copy, ratio."""
    ceiling = ceiling_of(results)
    lines = [f"{'':44}{'us':>10}{'spread':>8}{'TB/s':>7}{'of copy':>9}{'fusednn is':>12}"]
    for result in results:
        lines.append(result.case)
        own = result.times.get("fusednn", {}).get("median")
        for name, time in result.times.items():
            rate = result.bytes_bound / time["median"]
            spread = (time["high"] - time["low"]) / time["median"]
            share = f"{rate / ceiling:8.0%}" if ceiling else ""
            ratio = f"{time['median'] / own:9.2f} x" if own and name != "fusednn" else ""
            mark = "" if time["captured"] else " (not captured)"
            lines.append(
                f"  {name + mark:42}{time['median'] * 1e6:10.1f}{spread:8.0%}{rate / 1e12:7.2f}"
                f"{share:>9}{ratio:>12}"
            )
        lines += [f"  {name:42}{why}" for name, why in result.absent.items()]
    return lines


def predictions(cases: Sequence[Case], rate: float) -> list[str]:
    """A line for each case: megabytes, and microseconds at `rate` bytes a second.

    Nothing is added for launches and barriers: no contender that moves these bytes is faster.
    """
    lines = [f"{'predicted, not measured':52}{'MB':>10}{'us':>10}"]
    for case in cases:
        megabytes, microseconds = case.bytes_bound / 1e6, case.bytes_bound / rate * 1e6
        lines.append(f"{case.name:52}{megabytes:10,.0f}{microseconds:10,.0f}")
    return lines


def write(path: Path, facts: dict[str, Any], results: Sequence[Result], questions: Any) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": facts,
        "copy_bytes_per_second": ceiling_of(results),
        "results": [asdict(result) for result in results],
        "questions": questions,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
