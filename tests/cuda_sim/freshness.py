"""Whether the simulator's libraries were built from the sources as they are now."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
#: Of each library; of the simulator itself, all .cpp files.
UNITS = {
    "fusednn_cuda_sim": ("csrc/cuda/*.cu", "tests/cuda_sim/drivers/*.cu"),
    "fusednn_cuda_sim_selftest": ("tests/cuda_sim/selftest/*.cu",),
}


def included(unit: Path, found: set[Path]) -> None:
    """Add a source and what it includes, however deep, to `found`."""
    if unit in found:
        return
    found.add(unit)
    for name in INCLUDE.findall(unit.read_text()):
        for folder in (unit.parent, ROOT / "csrc", ROOT / "csrc/include", HERE):
            if (path := (folder / name).resolve()).is_file():
                included(path, found)
                break


def sources(library: Path) -> set[Path]:
    """All files of this project that a library is compiled from."""
    found: set[Path] = set()
    for pattern in (*UNITS[library.stem.removeprefix("lib")], "tests/cuda_sim/*.cpp"):
        for unit in ROOT.glob(pattern):
            included(unit, found)
    return found


def staleness(library: Path) -> str:
    """What in a library is not of these sources, or nothing.

    One that lies in no folder of CMake's was made for a purpose: nothing is said of it.
    """
    folder = library.parents[2]
    cache = folder / "CMakeCache.txt"
    if not cache.exists():
        return ""
    home = re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache.read_text(), re.MULTILINE)
    if home and Path(home[1]).resolve() != ROOT.resolve():
        return f"{library} was built from {home[1]}, not from {ROOT}: it needs a folder of its own"
    newest = max(sources(library), key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime <= library.stat().st_mtime:
        return ""
    build = f"`cmake --build {folder} --target cuda_sim` builds it anew"
    return f"{library} is older than {newest.relative_to(ROOT)}: {build}"
