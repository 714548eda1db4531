"""What the kernels' PTX must and must not have: NVIDIA's assembly before it is one GPU's.

What `-fmad=false` and the kernels' own text promise shows here, without a GPU: no product and sum
are one instruction, nothing is approximate or flushes denormals, numbers that are no integers are
never added atomically, and arrays are read 16 bytes at a time.
"""

from __future__ import annotations

import re
from collections import Counter

#: Kernels over the caller's arrays; the others read sums of leaves and tables.
OVER_ARRAYS = ("pass_over", "map_leaky_relu", "update_list", "measure_arrays")
KERNEL = re.compile(r"\.entry (\w+)")
#: An instruction behind its predicate, as in `@%p1 ld.global.u32`; inline PTX may have several.
INSTRUCTION = re.compile(r"(?:^|[;{])\s*(?:@!?%?\w+\s+)?([a-z][\w.:]*)(?=[\s;])")
#: A type of floating-point numbers, as the last part of an instruction's name.
_FLOAT = re.compile(r"\.b?f\d+(x2)?$")
_16_BYTES = re.compile(r"^ld\.global(?:\.\w+|::\w+|\.L1::\w+)*\.v(?:4\.[bfu]32|2\.[bfu]64)$")


def why_forbidden(instruction: str) -> str:
    """Return what is wrong with an instruction, or nothing."""
    name, *_ = instruction.split(".")
    if not _FLOAT.search(instruction):
        return ""
    if name in {"fma", "mad"}:
        return "rounds a product and a sum once"
    if name in {"atom", "red"}:
        return "adds in no order of its own"
    if ".approx" in instruction or ".ftz" in instruction:
        return "does not round as IEEE 754 does"
    return ""


def kernels_of(ptx: str) -> dict[str, Counter[str]]:
    """Count the instructions of each kernel."""
    found: dict[str, Counter[str]] = {}
    kernel: Counter[str] = Counter()
    for line in ptx.splitlines():
        text = line.strip()
        if entry := KERNEL.search(text):
            kernel = found.setdefault(entry[1], Counter())
        elif not text.startswith((".", "//", "$")):
            kernel.update(INSTRUCTION.findall(text))
    return found


def problems(ptx: str) -> dict[str, list[str]]:
    """Return what is wrong with each kernel that something is wrong with."""
    wrong: dict[str, list[str]] = {}
    for kernel, instructions in kernels_of(ptx).items():
        said = [f"{name} {why}" for name in instructions if (why := why_forbidden(name))]
        has_arrays = any(name in kernel for name in OVER_ARRAYS)
        if has_arrays and not any(_16_BYTES.match(name) for name in instructions):
            said.append("reads nothing 16 bytes at a time")
        if said:
            wrong[kernel] = said
    return wrong
