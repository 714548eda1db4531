"""The roof in the same run: our own passes over memory, PyTorch's copy, and what caches change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cases import Case, Contender, Prepared

from fusednn import _core

MIB = 1 << 20
#: Bytes of an array: in L2, about as large as it, far beyond.
SIZES = (4 * MIB, 32 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB)
#: Inputs, arrays that are updated, whether there is an output: reading, copying, what the forward
#: and backward passes of BatchNorm and the optimizers move.
PASSES = {
    "read": (1, 0, False),
    "copy": (1, 0, True),
    "add (backward)": (2, 0, True),
    "update 1 (momentum's parameters)": (1, 1, False),
    "update 2 (momentum, RMSProp)": (1, 2, False),
    "update 3 (Adam)": (1, 3, False),
}


def cases(torch: Any, where: str, small: bool) -> Iterator[Case]:
    """The copy at every size, the other passes at the largest but one."""
    for bytes_ in (4096,) if small else SIZES:
        yield _case(torch, where, "copy", bytes_)
    for name in PASSES:
        if name != "copy":
            yield _case(torch, where, name, 4096 if small else SIZES[3])


def _case(torch: Any, where: str, name: str, bytes_: int) -> Case:
    inputs, updated, has_output = PASSES[name]
    count = bytes_ // 4
    arrays = inputs + updated + has_output

    def made(seed: int) -> list[Any]:
        torch.manual_seed(seed)
        return [torch.rand(count, device=where) for _ in range(arrays)]

    def ours(non_temporal: bool) -> Callable[[int], Prepared]:
        def prepare(seed: int) -> Prepared:
            given = made(seed)
            read, written = given[:inputs], given[inputs : inputs + updated]
            output = given[-1] if has_output else None
            return (lambda: _core.stream(read, written, output, non_temporal)), lambda: given

        return prepare

    def of_torch(seed: int) -> Prepared:
        given = made(seed)
        return (lambda: given[1].copy_(given[0])), lambda: given

    contenders = [
        Contender("fusednn, past the caches", ours(True)),
        Contender("fusednn", ours(False)),
    ]
    if name == "copy":
        contenders.append(Contender("torch copy_", of_torch))
    moved = (inputs + 2 * updated + has_output) * bytes_
    title = f"{name} {bytes_ // MIB} MiB" if bytes_ >= MIB else f"{name} {bytes_} bytes"
    return Case(title, moved, arrays * bytes_, tuple(contenders), 1e-6)
