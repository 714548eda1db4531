"""Compare the library's binary interface with the committed one, ``dev/abi.txt``.

``python dev/check_abi.py BUILD_DIR`` fails where a symbol, or the size of a struct or the place of
one of its members, differs: a program that was compiled against the header would notice. What is
only added keeps `FNN_ABI_VERSION`; what is changed or removed raises it. ``--write`` records what
is there now.
"""

import argparse
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = ROOT / "csrc/include/fusednn/fusednn.h"
RECORD = ROOT / "dev/abi.txt"

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
STRUCT = re.compile(r"typedef struct (\w+) \{(.*?)\n\} \1;", re.DOTALL)
ENUM = re.compile(r"enum(?: \w+)? \{(.*?)\}", re.DOTALL)


def members(body: str) -> list[str]:
    """Return the names of a struct's members."""
    found = []
    for declaration in filter(None, map(str.strip, body.split(";"))):
        pointer = re.search(r"\(\*(\w+)\)", declaration)
        parts = [declaration] if pointer else declaration.split(",")
        found += [pointer[1] if pointer else re.findall(r"\w+", p.split("[")[0])[-1] for p in parts]
    return found


def layout(header: Path) -> list[str]:
    """Return a line per constant, struct and member, as the C compiler lays them out."""
    text = COMMENT.sub("", header.read_text())
    lines = ['printf("abi version %d\\n", FNN_ABI_VERSION);']
    for body in ENUM.findall(text):
        for entry in body.split(","):
            name = entry.split("=")[0].strip()
            lines.append(f'printf("constant {name} = %d\\n", (int){name});')
    for struct, body in STRUCT.findall(text):
        lines.append(f'printf("struct {struct}: %zu bytes\\n", sizeof({struct}));')
        lines += [
            f'printf("struct {struct}: {member} at %zu\\n", offsetof({struct}, {member}));'
            for member in members(body)
        ]
    program = "\n  ".join(lines)
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "layout.c"), Path(folder, "layout")
        source.write_text(
            f'#include "{header}"\n#include <stdio.h>\nint main(void) {{\n  {program}\n}}\n'
        )
        subprocess.run(["cc", "-std=c99", str(source), "-o", str(binary)], check=True)
        said = subprocess.run([str(binary)], check=True, capture_output=True, text=True)
    return said.stdout.splitlines()


def symbols(library: Path) -> list[str]:
    """Return a line per function that the library exports."""
    command = ["nm", "--format=posix", "--dynamic", "--defined-only", str(library)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(f"function {line.split()[0].partition('@')[0]}" for line in listing.splitlines())


def differences(now: list[str], record: Path = RECORD) -> list[str]:
    """Return the lines that differ from the record, marked as in a diff."""
    recorded = record.read_text().splitlines()
    lines = difflib.unified_diff(recorded, now, lineterm="", n=0)
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("build_dir", type=Path)
    parser.add_argument("--write", action="store_true", help="record what is there now")
    arguments = parser.parse_args()
    library = next(iter(sorted(arguments.build_dir.rglob("libfusednn.so"))), None)
    if library is None:
        print(f"{arguments.build_dir}: no libfusednn.so")
        return 1
    now = layout(HEADER) + symbols(library)
    if arguments.write:
        RECORD.write_text("\n".join(now) + "\n")
        return 0
    found = differences(now)
    for line in found:
        print(line)
    print(f"check_abi: {len(now)} lines, {len(found)} differ from dev/{RECORD.name}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
