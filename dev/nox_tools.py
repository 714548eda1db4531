"""What the sessions of noxfile.py share: builds, installations, environments, runs of pytest."""

import hashlib
import os
import platform
import sys
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")
#: The instruction set that every machine of this kind has.
PORTABLE_UNIT = "neon" if platform.machine() in {"aarch64", "arm64"} else "baseline"


def groups(*names: str) -> tuple[str, ...]:
    """Return the requirements of dependency groups of pyproject.toml."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def build_dir(session: nox.Session) -> Path:
    """Return the folder of what is built for the session's Python."""
    version = session.python or f"{sys.version_info.major}.{sys.version_info.minor}"
    return Path("build") / f"python{version}"


def digest_of_sources(headers: Path | None) -> str:
    """Return a digest of everything that goes into a wheel, and of the compiler's variables.

    jaxlib's `headers` count by what they say, not by the environment that they lie in.
    """
    files = [Path(name) for name in ("CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")]
    for folder in ("cmake", "csrc", "python"):
        found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        files += [path for path in found if path.suffix not in {".pyc", ".so"}]
    named = {str(path): path for path in files}
    if headers:
        found = sorted((headers / "xla").rglob("*.h"))
        named |= {f"jaxlib/{path.relative_to(headers)}": path for path in found}
    digest = hashlib.sha256()
    for name, path in named.items():
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    for name in ("CXX", "CXXFLAGS", "LDFLAGS", "CMAKE_ARGS", "SKBUILD_CMAKE_ARGS"):
        digest.update(f"{name}={os.environ.get(name)}\0".encode())
    return digest.hexdigest()


def build_environment(session: nox.Session) -> str:
    """Return the folder of an environment that all sessions' wheels are built in.

    pip's isolated builds are each in a new folder, for which CMake's are cleared and the binding
    and the C API are compiled anew. The sessions `sanitize` and `pythons` have pip isolate theirs.
    """
    folder = str(build_dir(session) / "environment")
    session.run("python", "-m", "venv", "--without-pip", folder)
    requirements = (*PYPROJECT["build-system"]["requires"], *groups("build"))
    pip = ("python", "-m", "pip", "--python", folder)
    session.run(*pip, "install", "--quiet", *requirements)
    return folder


def build_wheel(session: nox.Session, jax_include: str = "OFF") -> Path:
    """Build the wheel unless a session before did so from the same sources; return its path.

    `jax_include` is the folder of jaxlib's headers, with which the handlers for JAX are built.
    """
    headers = None if jax_include == "OFF" else Path(jax_include)
    folder = build_dir(session) / ("jax" if headers else "plain")
    stamp = folder / "sources.sha256"
    digest = digest_of_sources(headers)
    if not stamp.exists() or stamp.read_text() != digest:
        for old in [stamp, *folder.glob("*.whl")]:
            old.unlink(missing_ok=True)
        session.run(
            *("python", "-m", "pip", "--python", build_environment(session), "wheel", "--quiet"),
            *("--no-deps", "--no-build-isolation", f"--wheel-dir={folder}"),
            f"-Cbuild-dir={build_dir(session) / 'objects'}",
            *(f"-Ccmake.define.FUSEDNN_JAX_INCLUDE={jax_include}", "."),
        )
        if headers:
            check = ("dev/check_wheel.py", "--handlers", str(next(folder.glob("fusednn-*.whl"))))
            session.run("python", *check)
        stamp.write_text(digest)
    return next(folder.glob("fusednn-*.whl"))


def install_package(session: nox.Session, *requirements: str, jax: bool = False) -> None:
    """Install this checkout, and `requirements`; with `jax`, which they bring, its handlers.

    They are built with the headers of the jaxlib that is installed, or of the folder that the
    environment variable FUSEDNN_JAX_INCLUDE names.
    """
    include = "OFF"
    if jax:
        session.install(*requirements)
        ask = "import jax.ffi; print(jax.ffi.include_dir())"
        installed = str(session.run("python", "-c", ask, silent=True)).strip()
        include = os.environ.get("FUSEDNN_JAX_INCLUDE", installed)
    wheel = str(build_wheel(session, include))
    session.install("--force-reinstall", "--no-deps", wheel)
    session.install(wheel, *requirements)


def run_pytest(session: nox.Session, *arguments: str, **env: str) -> None:
    """Run pytest, with BLAS on one thread unless told otherwise: our own threads are tested.

    Tests run in several processes, those that are marked `alone` after all others in one. With
    ``-- -n0`` all run in one, as ``--pdb`` wants.
    """
    blas = os.environ.get("OPENBLAS_NUM_THREADS", "1")
    env = {"OPENBLAS_NUM_THREADS": blas, **env}
    pytest = ("python", "-m", "pytest", *arguments)
    if session.posargs:  # which may select no test at all
        session.run(*pytest, *session.posargs, "--collect-only", "-qq", env=env, silent=True)
    none = 5  # what pytest says where no test is selected
    codes = [0, none] if session.posargs else [0]
    several = ("-m", "not alone", "--numprocesses=auto", "--maxprocesses=4", "--dist=worksteal")
    session.run(*pytest, *several, *session.posargs, env=env, success_codes=codes)
    alone = ("-m", "alone", *session.posargs, "-n0")
    session.run(*pytest, *alone, env=env, success_codes=[0, none])


def compiler_file(session: nox.Session, name: str) -> str:
    """Return the path of a library that g++ brings."""
    command = ("g++", f"-print-file-name={name}")
    return os.path.realpath(str(session.run(*command, external=True, silent=True)).strip())


def sanitizer_environment(session: nox.Session, runtime: str, **more: str) -> dict[str, str]:
    """Return what a Python that loads libraries built with a sanitizer runs with."""
    # Python is not instrumented: preload the run-time, and libstdc++, whose `throw` it wraps.
    preload = [compiler_file(session, name) for name in (runtime, "libstdc++.so")]
    return {
        "LD_PRELOAD": ":".join(preload),
        # The interpreter keeps its memory to the end: leaks cannot be told from that.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1:die_after_fork=0",
        **more,
    }


def cmake_environment(session: nox.Session) -> dict[str, str]:
    """Install what CMake needs outside of pip's builds, and return what leads it to pybind11."""
    session.install(*groups("build"))
    where = session.run("python", "-m", "pybind11", "--cmakedir", silent=True)
    return {"pybind11_DIR": str(where).strip()}


def build_cuda_sim(session: nox.Session, kind: str = "plain") -> Path:
    """Build the simulator of tests/cuda_sim; return the folder of its libraries."""
    folder = Path("build") / ("cuda_sim" if kind == "plain" else f"cuda_sim-{kind}")
    options = []
    if kind != "plain":
        options = [
            f"-DFUSEDNN_SANITIZE={'address,undefined' if kind == 'address' else kind}",
            "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g",
        ]
    session.install(*groups("build"))
    session.run("cmake", "--preset", "cuda_sim", "-B", str(folder), *options)
    session.run("cmake", "--build", str(folder), "--target", "cuda_sim")
    return (folder / "tests/cuda_sim").absolute()
