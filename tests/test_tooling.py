"""The checks in dev/ can fail: each is shown what it must refuse. The tools agree on versions."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "dev" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_abi = load("check_abi")
check_symbols = load("check_symbols")
check_wheel = load("check_wheel")
check_installed_size = load("check_installed_size")
check_cuda_library = load("check_cuda_library")

needs_compiler = pytest.mark.skipif(
    not all(map(shutil.which, ("g++", "nm", "readelf"))), reason="needs g++ and binutils"
)

GOOD_UNIT = """
#include <math.h>
namespace fusednn { inline namespace x86_64_v3 {
template <class T> __attribute__((noinline)) T twice(T x) { return sqrtf(x + x); }
inline __attribute__((noinline)) float counted(float x) { static float n; return n += x; }
float run(float x) { return twice(x) + counted(x); }
} }
"""

BAD_UNITS = {
    "inline function outside": (
        "inline __attribute__((noinline)) float twice(float x) { return x + x; }"
        "namespace fusednn { namespace x86_64_v3 { float run(float x) { return twice(x); } } }",
        "weak symbol outside fusednn::x86_64_v3: _Z5twicef",
    ),
    "another unit's namespace": (
        "namespace fusednn { namespace x86_64_v4 {"
        "template <class T> __attribute__((noinline)) T twice(T x) { return x + x; }"
        "float run(float x) { return twice(x); } } }",
        "weak symbol outside fusednn::x86_64_v3: _ZN7fusednn9x86_64_v4",
    ),
    "unique static of a template": (
        "template <class T> struct Table { static T rows; }; template <class T> T Table<T>::rows;"
        "namespace fusednn { namespace x86_64_v3 { float* run() { return &Table<float>::rows; }}}",
        "weak symbol outside fusednn::x86_64_v3: _ZN5TableIfE4rowsE",
    ),
    "standard library": (
        "#include <vector>\n"
        "namespace fusednn { namespace x86_64_v3 {"
        "void run(std::vector<float>& x) { x.push_back(1); } } }",
        "needs a C++ run-time symbol: _Zn",
    ),
    "guarded static": (
        "namespace fusednn { namespace x86_64_v3 { float make();"
        "float run() { static float x = make(); return x; } } }",
        "needs a C++ run-time symbol: __cxa_guard_acquire",
    ),
}


def compile_cpp(source: str, output: Path, *options: str) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_suffix(".cpp")
    path.write_text(source)
    command = ["g++", "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", *options]
    subprocess.run([*command, str(path), "-o", str(output)], check=True)
    return output


LIBRARY = """
extern "C" __attribute__((visibility("default"))) int fnn_version() { return 1; }
"""


@needs_compiler
def test_unit_that_keeps_to_its_namespace_passes(tmp_path: Path) -> None:
    unit = compile_cpp(GOOD_UNIT, tmp_path / "unit.o", "-c")
    kinds = {kind for kind, _ in check_symbols.read_symbols(unit)}
    assert {"W", "u"} <= kinds, "the example has no weak or unique symbol, so it shows nothing"
    assert check_symbols.check_unit(unit, "x86_64_v3") == []


@needs_compiler
@pytest.mark.parametrize(("source", "problem"), BAD_UNITS.values(), ids=BAD_UNITS.keys())
def test_unit_that_leaks_is_refused(tmp_path: Path, source: str, problem: str) -> None:
    unit = compile_cpp(source, tmp_path / "unit.o", "-c")
    assert problem in "\n".join(check_symbols.check_unit(unit, "x86_64_v3"))


@needs_compiler
def test_unit_with_link_time_optimisation_is_refused(tmp_path: Path) -> None:
    unit = compile_cpp(GOOD_UNIT, tmp_path / "unit.o", "-c", "-flto", "-ffat-lto-objects")
    assert "link time optimisation" in "\n".join(check_symbols.check_unit(unit, "x86_64_v3"))


@needs_compiler
@pytest.mark.parametrize(
    ("source", "options", "problem"),
    [
        (LIBRARY + "int stray() { return 2; }", ["-fvisibility=default"], "exports _Z5strayv"),
        (
            LIBRARY + 'extern "C" int Py_IsInitialized(); int f() { return Py_IsInitialized(); }',
            [],
            "needs Python's Py_IsInitialized",
        ),
        (LIBRARY, ["-Wl,--no-as-needed", "-lgomp"], "links libgomp.so.1"),
        ("int hidden;", [], "exports nothing"),
    ],
    ids=["exported", "python", "linked", "empty"],
)
def test_library_is_refused(tmp_path: Path, source: str, options: list[str], problem: str) -> None:
    library = compile_cpp(source, tmp_path / "libfusednn.so", "-shared", *options)
    assert problem in "\n".join(check_symbols.check_library(library))


@needs_compiler
def test_build_directory_is_searched_and_must_hold_something(tmp_path: Path) -> None:
    problems, _ = check_symbols.check_build(tmp_path)
    assert len(problems) == 2
    objects = tmp_path / "CMakeFiles" / "fusednn_unit_x86_64_v3.dir" / "csrc"
    compile_cpp(GOOD_UNIT, objects / "unit.cpp.o", "-c")
    compile_cpp(LIBRARY, tmp_path / "libfusednn.so", "-shared")
    assert check_symbols.check_build(tmp_path)[0] == []
    compile_cpp(BAD_UNITS["standard library"][0], objects / "bad.cpp.o", "-c")
    assert check_symbols.check_build(tmp_path)[0] != []


HEADER = """
#include <stddef.h>
#define FNN_ABI_VERSION 3
/* struct of a comment; { */
typedef enum fnn_kind { FNN_ONE = 1 } fnn_kind;
typedef struct fnn_pair {
  size_t size; /* first; */
  void (*call)(void* context, int count);
  double numbers[FNN_ONE], *more;
} fnn_pair;
"""


@needs_compiler
@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("size_t size;", "int size, kind;", "+struct fnn_pair: kind at 4"),
        ("FNN_ONE = 1", "FNN_ONE = 2", "+constant FNN_ONE = 2"),
        ("VERSION 3", "VERSION 4", "-abi version 3"),
    ],
)
def test_another_binary_interface_is_noticed(
    tmp_path: Path, old: str, new: str, differs: str
) -> None:
    header, record = tmp_path / "fusednn.h", tmp_path / "abi.txt"
    header.write_text(HEADER)
    before = check_abi.layout(header)
    assert "struct fnn_pair: call at 8" in before
    record.write_text("\n".join(before) + "\n")
    assert check_abi.differences(check_abi.layout(header), record) == []
    header.write_text(HEADER.replace(old, new))
    assert differs in check_abi.differences(check_abi.layout(header), record)


@needs_compiler
def test_lost_functions_are_noticed(tmp_path: Path) -> None:
    library = compile_cpp(LIBRARY, tmp_path / "libfusednn.so", "-shared")
    record = tmp_path / "abi.txt"
    record.write_text("function fnn_gone\nfunction fnn_version\n")
    assert check_abi.differences(check_abi.symbols(library), record) == ["-function fnn_gone"]


def make_wheel(path: Path, names: list[str]) -> Path:
    with ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, "content")
    return path


GOOD_WHEEL = [
    "fusednn/__init__.py",
    "fusednn/py.typed",
    "fusednn/_core.pyi",
    "fusednn/_core.cpython-311-x86_64-linux-gnu.so",
    "fusednn/lib/libfusednn.so",
    "fusednn/include/fusednn/fusednn.h",
    "fusednn-1.dist-info/licenses/LICENSE",
]


def test_wheel_with_every_part_passes(tmp_path: Path) -> None:
    assert check_wheel.check_wheel(make_wheel(tmp_path / "good.whl", GOOD_WHEEL)) == []


@pytest.mark.parametrize("lost", GOOD_WHEEL)
def test_wheel_without_a_part_is_refused(tmp_path: Path, lost: str) -> None:
    names = [name for name in GOOD_WHEEL if name != lost]
    problems = check_wheel.check_wheel(make_wheel(tmp_path / "lacking.whl", names))
    assert len(problems) == 1
    assert problems[0].startswith("lacks ")


def test_wheel_for_jax_has_its_handlers(tmp_path: Path) -> None:
    plain = make_wheel(tmp_path / "plain.whl", GOOD_WHEEL)
    problems = check_wheel.check_wheel(plain, handlers=True)
    assert problems == ["lacks fusednn/**libfusednn_xla.so"]
    for_jax = make_wheel(tmp_path / "jax.whl", [*GOOD_WHEEL, "fusednn/lib/libfusednn_xla.so"])
    assert check_wheel.check_wheel(for_jax, handlers=True) == []
    with ZipFile(for_jax, "a") as wheel:
        wheel.writestr("fusednn/lib/more/libfusednn_xla.so", bytes(check_wheel.MAX_JAX_BYTES))
    (problem,) = check_wheel.check_wheel(for_jax, handlers=True)
    assert problem.endswith("of 40,000 bytes, must be under 40,000")


def test_wheel_with_sources_or_too_large_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "bad.whl", [*GOOD_WHEEL, "fusednn/cpu/batch_norm.cpp"])
    assert check_wheel.check_wheel(wheel) == ["holds fusednn/cpu/batch_norm.cpp"]
    assert "must be under 100" in check_wheel.check_wheel(wheel, max_bytes=100)[-1]


def test_wheel_with_a_large_cuda_library_is_refused(tmp_path: Path) -> None:
    library = "fusednn/lib/libfusednn_cuda.so"
    wheel = make_wheel(tmp_path / "cuda.whl", [*GOOD_WHEEL, library])
    assert check_wheel.check_wheel(wheel) == []
    too_large = [f"holds {library} of 7 bytes, must be under 7"]
    assert check_wheel.check_wheel(wheel, max_cuda_bytes=7) == too_large
    # The library's own bytes do not count against the rest.
    rest = wheel.stat().st_size - 7
    assert check_wheel.check_wheel(wheel, max_bytes=rest + 1) == []
    assert "without its CUDA kernels, must be" in check_wheel.check_wheel(wheel, max_bytes=rest)[0]


def test_installed_sizes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_installed_size.needed("pytest") >= {"pytest", "pluggy", "packaging"}
    for limit, status in ((10**9, 0), (100_000, 1)):
        monkeypatch.setattr(sys, "argv", ["check", "pytest", "--max-bytes", str(limit)])
        assert check_installed_size.main() == status
    assert re.search(r"pluggy +[\d,]+ bytes\n", capsys.readouterr().out)


@needs_compiler
def test_a_large_cuda_library_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "libfusednn_cuda.so"
    subprocess.run(
        ["g++", "-g", "-shared", "-x", "c++", "-", "-o", library],
        input="int one = 1;",
        text=True,
        check=True,
    )
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, library], check=True)
    size = stripped.stat().st_size
    assert size < library.stat().st_size
    assert check_cuda_library.check_size(library, size + 1) == []
    assert check_cuda_library.check_size(library, size) == [
        f"is {size:,} bytes, must be under {size:,}"
    ]


def test_the_time_of_compiling_is_limited() -> None:
    assert check_cuda_library.check_time(719.4) == []
    assert check_cuda_library.check_time(720.4) == ["took 720 s of CPU to build, must be under 720"]


def test_spilled_registers_are_found_by_kernel_and_architecture() -> None:
    said = """
ptxas info    : Compiling entry function 'good' for 'sm_80'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'bad' for 'sm_90'
ptxas info    : Function properties for bad
    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
"""
    assert check_cuda_library.find_spills(said) == {
        ("bad", "sm_90"): "8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads"
    }


def test_pre_commit_uses_the_versions_of_the_lint_group() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        group = tomllib.load(file)["dependency-groups"]["lint"]
    pinned = {requirement for requirement in group if isinstance(requirement, str)}
    hooks = re.findall(r"[\w-]+==[\w.]+", (ROOT / ".pre-commit-config.yaml").read_text())
    assert set(hooks) == pinned


def gpu_check(out: Path, *arguments: str, python: str = sys.executable) -> tuple[int, str]:
    """Run dev/gpu_check.sh; return its status and what it says last."""
    ran = subprocess.run(
        [str(ROOT / "dev/gpu_check.sh"), *arguments, "--dry-run"],
        env=os.environ | {"OUT": str(out), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout


def test_gpu_check_goes_on_after_a_stage_that_fails(tmp_path: Path) -> None:
    status, said = gpu_check(tmp_path, "test", "sanitize", python="false")
    assert status == 1
    table = r"^test .* FAILED \(1\)\nsanitize .* NOT RUN\ntotal .* 1 stages failed"
    assert re.search(table, said, re.MULTILINE)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dry_run"] is True
    results = {name: stage["result"] for name, stage in summary["stages"].items()}
    assert results == {"test": "FAILED (1)", "sanitize": "NOT RUN"}
    assert "NOT RUN: a dry run" in (tmp_path / "sanitize.log").read_text()


@pytest.mark.parametrize(
    ("said", "status", "result"),
    [
        ("12 passed, 3 deselected in 1.00s", 0, "passed"),
        ("1 failed, 3 passed in 1.00s", 1, "FAILED (1)"),
        ("no tests ran in 0.01s", 5, "FAILED (1)"),
        ("ERROR SUMMARY: 2 errors", 9, "FAILED (1)"),
        ("Error: the driver does not allow it", 1, "NOT RUN"),
    ],
)
def test_gpu_check_tells_what_the_sanitizers_say(
    tmp_path: Path, said: str, status: int, result: str
) -> None:
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    tool.chmod(0o755)
    path = f"{tool.parent}:{os.environ['PATH']}"
    subprocess.run(
        [str(ROOT / "dev/gpu_check.sh"), "sanitize"],
        env=os.environ | {"OUT": str(tmp_path), "PATH": path},
        capture_output=True,
        check=False,
    )
    stages = json.loads((tmp_path / "summary.json").read_text())["stages"]
    assert stages["sanitize"]["result"] == result


def test_gpu_check_finds_the_compiler_of_pypi(tmp_path: Path) -> None:
    """No nvcc on PATH; the environment has the package, and its stage goes on to pybind11."""
    nvcc = tmp_path / "site/nvidia/cu13/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text('#!/bin/sh\necho "told $NVCC_APPEND_FLAGS"\n')  # which pip leaves as it is
    package = tmp_path / "site/nvidia_cuda_nvcc-13.0.88.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cuda-nvcc\n")
    (package / "RECORD").write_text("nvidia/cu13/bin/nvcc,,\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" != -m ] || exit 7\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in [
        "bash",
        "cat",
        "dirname",
        "git",
        "grep",
        "mkdir",
        "sed",
        "tail",
        "tee",
        "timeout",
        "tr",
        "uname",
    ]:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    ran = subprocess.run(
        [str(ROOT / "dev/gpu_check.sh"), "build", "--dry-run"],
        env=os.environ
        | {"OUT": str(tmp_path), "PYTHON": str(python), "PATH": str(tools)}
        | {"PYTHONPATH": str(tmp_path / "site"), "CUDA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    root = nvcc.parents[1]
    assert f"\n{nvcc}\ntold -I{root / 'include'} -L{root / 'lib'}\n" in ran.stdout
    assert "FAILED (7)" in ran.stdout


def test_gpu_check_fits_in_ten_minutes() -> None:
    limits = re.search(
        r"^declare -A limit=\((.*)\)$", (ROOT / "dev/gpu_check.sh").read_text(), re.MULTILINE
    )
    assert limits is not None
    seconds = dict(re.findall(r"\[(\w+)\]=(\d+)", limits[1]))
    assert set(seconds) == {"build", "test", "sanitize", "bench"}
    assert sum(map(int, seconds.values())) <= 570  # starting and ending take some


def test_gpu_check_knows_its_stages(tmp_path: Path) -> None:
    assert gpu_check(tmp_path, "sanitize")[0] == 0
    assert gpu_check(tmp_path, "measure")[0] == 2
