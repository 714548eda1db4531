"""Check how much room an installed fusednn takes, with all that it needs to run: NumPy and tqdm."""

import argparse
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

MAX_BYTES = 100_000_000


def needed(name: str) -> set[str]:
    """Return the distribution's name, and those of all that it needs without an extra."""
    found: set[str] = set()
    wanted = [name]
    while wanted:
        each = wanted.pop()
        if each in found:
            continue
        found.add(each)
        for requirement in distribution(each).requires or []:
            # What has a marker is of an extra, or of another system.
            if ";" not in requirement:
                match = re.match(r"[\w.-]+", requirement)
                assert match is not None
                wanted.append(match[0].lower())
    return found


def installed_bytes(name: str) -> int:
    """Return the size of all files that a distribution installed, compiled ones included."""
    files = distribution(name).files or []
    places = {Path(str(file.locate())).resolve() for file in files}
    return sum(place.stat().st_size for place in places if place.is_file())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", default="fusednn")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    options = parser.parse_args()
    sizes = {name: installed_bytes(name) for name in sorted(needed(options.name))}
    for name, size in sizes.items():
        print(f"check_installed_size: {name:<10} {size:>12,} bytes")
    total = sum(sizes.values())
    print(f"check_installed_size: {total:,} bytes, must be under {options.max_bytes:,}")
    return 1 if total >= options.max_bytes else 0


if __name__ == "__main__":
    sys.exit(main())
