"""Do what docs/c.md says, as it stands there: its commands, its CMake lines, its C.

Needs an installed fusednn, cc, CMake and Ninja or Make.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What stands around the C of the page; DLPack's types are those of its header.
AROUND_C = r"""
#include <fusednn/fusednn.h>
#include <stdint.h>
#include <stdio.h>
typedef struct {{ void* data; int32_t device_type, device_id, ndim;
                 uint8_t code, bits; uint16_t lanes;
                 int64_t *shape, *strides; uint64_t byte_offset; }} DLTensor;
typedef struct {{ uint32_t major, minor; void* manager_ctx; void (*deleter)(void*); uint64_t flags;
                 DLTensor dl_tensor; }} DLManagedTensorVersioned;
int main(void) {{
  float data[6] = {{1, 2, 3, 4, 5, 6}};
  int64_t shape[2] = {{2, 3}};
  DLManagedTensorVersioned m = {{1, 0, NULL, NULL, 1, {{data, 1, 0, 2, 2, 32, 1, shape, NULL, 0}}}};
  DLManagedTensorVersioned* managed = &m;
{fragment}
  if (status != FNN_SUCCESS || x.data != (void*)data || x.dtype != FNN_FLOAT32) return 1;
  m.dl_tensor.code = 0;
  {{
{fragment}
    return status == FNN_SUCCESS; /* integers are refused, in one line of stderr */
  }}
}}
"""
AROUND_CMAKE = """cmake_minimum_required(VERSION 3.24)
project(page LANGUAGES C)
add_executable(program batch_norm.c)
{fragment}
target_link_libraries(program PRIVATE m)
"""


def fragments(language: str) -> list[str]:
    """Return what the page has in this language."""
    page = (ROOT / "docs/c.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def run(command: str, folder: Path) -> str:
    """Run a line of the shell, whose `python` is this one; return its stderr."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    print(f"$ {command}", flush=True)
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
        text=True,
        stderr=subprocess.PIPE,
    )
    return done.stderr


def main() -> int:
    (commands,), (cmake,), (c,) = (fragments(language) for language in ("sh", "cmake", "c"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / "examples/c/batch_norm.c", folder)
        (folder / "CMakeLists.txt").write_text(AROUND_CMAKE.format(fragment=cmake))
        run(f"{commands}./batch_norm", folder)
        run("cmake --build build && build/program", folder)
        (folder / "dlpack.c").write_text(AROUND_C.format(fragment=c))
        flags = "-std=c99 -Wall -Wextra -Werror -Wno-missing-braces"
        libraries = "$(python -m fusednn --includes) $(python -m fusednn --libs)"
        said = run(f"cc {flags} dlpack.c {libraries} -o dlpack && ./dlpack", folder)
        if len(said.splitlines()) != 1:
            print(f"check_c_page: of integers it should say one line, not {said!r}")
            return 1
    print("check_c_page: what docs/c.md says works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
