"""Write ``python/fusednn/_core.pyi`` from the installed extension; ``--check`` compares instead."""

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

STUB = Path(__file__).parents[1] / "python" / "fusednn" / "_core.pyi"
HEADER = '"""Written by `nox -s stubs` from the compiled module: do not edit."""\n'


def generate_stub() -> str:
    """Return the text of the stub of the installed ``fusednn._core``."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "pybind11_stubgen", "fusednn._core", "--output-dir", folder]
        subprocess.run([sys.executable, *command, "--exit-code"], check=True, cwd=folder)
        body = (Path(folder) / "fusednn" / "_core.pyi").read_text()
    lines = [line.rstrip() for line in body.splitlines()]
    return HEADER + "\n".join(lines).strip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check

    new = generate_stub()
    if not check:
        STUB.write_text(new)
        return 0
    old = STUB.read_text() if STUB.exists() else ""
    difference = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "committed", "generated", lineterm=""
    )
    print(*difference, sep="\n")
    if new != old:
        print(f"{STUB.name} is out of date: run `nox -s stubs`")
    return int(new != old)


if __name__ == "__main__":
    sys.exit(main())
