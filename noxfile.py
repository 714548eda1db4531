"""Everything a developer or CI runs: ``nox -s NAME``; ``nox --list`` tells what there is."""

import shutil
import sys
from pathlib import Path

import nox

sys.path.append(str(Path(__file__).parent / "dev"))
from nox_tools import (
    PORTABLE_UNIT,
    PYPROJECT,
    build_cuda_sim,
    build_dir,
    build_wheel,
    cmake_environment,
    groups,
    install_package,
    run_pytest,
    sanitizer_environment,
)

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "tests"]
nox.options.error_on_external_run = True
# pip: its configuration says where wheels of PyTorch without CUDA lie, and uv does not read it.
nox.options.default_venv_backend = "virtualenv"

PYTHONS = nox.project.python_versions(PYPROJECT)


@nox.session
def tests(session: nox.Session) -> None:
    """Install the package and run its tests; other frameworks are not needed."""
    install_package(session, *groups("test"))
    names = "('torch', 'jax', 'keras', 'tensorflow')"
    session.run(
        *("python", "-c"),
        f"from importlib.util import find_spec; assert not any(map(find_spec, {names})), {names}",
    )
    run_pytest(session, "--ignore=tests/peers")


@nox.session
def learning(session: nox.Session) -> None:
    """Whole trainings on real data with five seeds, of which the tests have one or two."""
    install_package(session, *groups("test"))
    run_pytest(session, "tests/test_training.py", "--learning")


@nox.session
def peers(session: nox.Session) -> None:
    """Compare with PyTorch, Keras, JAX, optax, ONNX and MLX; dry run of dev/gpu_check.sh.

    What follows ``--`` is for the tests of peers, which are then alone.
    """
    install_package(session, *groups("peers"), jax=True)
    # A test whose peer cannot be imported would be skipped.
    imports = "import torch, keras, fusednn.jax, optax, flax.nnx, equinox, onnx, mlx.optimizers"
    session.run("python", "-c", imports, env={"KERAS_BACKEND": "jax"})
    run_pytest(session, "tests/peers")
    if session.posargs:
        return
    # What is for GPUs runs on stand-ins here: PyTorch's CPU tensors, NumPy, the simulator; with the
    # package of the session, not one that the script has built. cuda_compile builds the kernels.
    simulator = str(build_cuda_sim(session))
    shutil.rmtree("build/gpu_check/site", ignore_errors=True)
    session.run(
        *("dev/gpu_check.sh", "test", "sanitize", "bench", "--dry-run"),
        env={"PYTHON": str(Path(session.bin) / "python"), "FUSEDNN_CUDA_SIM": simulator},
        external=True,
    )


#: What the tests of a framework need besides it, whichever release it is.
FRAMEWORKS = {
    "jax": ("optax>=0.2.8", "flatbuffers"),  # jax.export writes with flatbuffers
    "keras": ("torch==2.13.0", "jax>=0.8"),
    "tensorflow-cpu": ("keras>=3.10",),
    "torch": (),
}
#: Which of tests/peers they are, where not those that are called after it.
FRAMEWORK_TESTS = {
    "tensorflow-cpu": (
        *("tests/peers/test_tensorflow_optimizers.py", "tests/peers/test_keras_backends.py"),
        *("-k", "tensorflow and not tensorflow_computes_as_keras"),
    )
}


@nox.session
def frameworks(session: nox.Session) -> None:
    """Test the adapters with given releases, one after the other: ``-- jax==0.9.2 keras==3.10``.

    Their tests in tests/peers run; those that need more packages are skipped. FUSEDNN_JAX_INCLUDE
    names the folder of another jaxlib's headers to build with.
    """
    if not session.posargs:
        session.error("name releases: nox -s frameworks -- jax==0.9.2")
    releases = list(session.posargs)
    session.posargs.clear()  # run_pytest would hand them on
    for release in releases:
        name = release.partition("==")[0]
        if name not in FRAMEWORKS or "==" not in release:
            session.error(f"must be NAME==VERSION of {', '.join(FRAMEWORKS)}. Received: {release}")
        with_jax = name in {"jax", "keras"}
        install_package(session, *groups("test"), release, *FRAMEWORKS[name], jax=with_jax)
        imports = f"import {name.removesuffix('-cpu')}" + (", fusednn.jax" if with_jax else "")
        session.run("python", "-c", imports, env={"KERAS_BACKEND": "jax"})
        named = sorted(str(path) for path in Path("tests/peers").glob(f"test_{name}_*.py"))
        tests = FRAMEWORK_TESTS.get(name, named)
        run_pytest(session, *tests)


@nox.session(python="3.11")
def keras2(session: nox.Session) -> None:
    """Exchange files with Keras 2.15; ``-- --record`` records its files for the other tests anew.

    TensorFlow 2.15 brings it, for Python 3.11 and older.
    """
    install_package(session, *groups("keras2"))
    env = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if session.posargs == ["--record"]:
        session.run("python", "tests/peers/keras2_files.py", env=env)
        return
    session.run("python", "-c", "import tensorflow", env=env)
    run_pytest(session, "tests/peers/test_keras2_files.py", **env)


@nox.session
def bench(session: nox.Session) -> None:
    """Run every case once in a small form beside all peers, answers checked, nothing timed.

    What follows ``--`` is passed to ``fusednn bench`` instead, e.g. ``-- --json results.json``.
    """
    install_package(session, *groups("bench"))
    if session.posargs:
        session.run("fusednn", "bench", *session.posargs)
        return
    session.run("fusednn", "bench", "--smoke", "--without", "torch-compile")
    # Compiling each case anew takes minutes: one of each family shows that the peer works.
    compiled = ("batch_norm/both/nc-32x100", "leaky_relu/backward/nc-32x100", "optimizer/adam/1x1k")
    compiled += ("step/adam/784-300-100-10-batch32",)
    options = ("--smoke", "--dtypes", "float32", "--peers", "torch-compile")
    session.run("fusednn", "bench", *options, *compiled)


def build_docs(session: nox.Session, form: str) -> None:
    """Build the site into build/docs, its pages' programs in one of their two forms."""
    install_package(session, *groups("docs"), jax=True)
    folder = Path("build/docs")
    shutil.rmtree(folder, ignore_errors=True)  # what is left of a page that is gone has links
    session.run(
        *("sphinx-build", "-W", "--keep-going", "-n", "-q", "-j", "2", "-b", "html"),
        *("-d", str(folder / "doctrees"), "docs", str(folder / "html"), *session.posargs),
        env={"FUSEDNN_DOCS": form, "KERAS_BACKEND": "torch", "OPENBLAS_NUM_THREADS": "1"},
    )
    session.run("python", "dev/check_links.py", str(folder / "html"))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, warnings as errors, with short trainings in its pages; check its links."""
    build_docs(session, "short")


@nox.session
def docs_long(session: nox.Session) -> None:
    """Build the site as `docs` does, with the trainings that its pages are about."""
    build_docs(session, "long")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint, types, spelling, and whether the committed stub is current."""
    install_package(session, *groups("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy", "--strict")
    sources = [str(p) for p in Path("csrc").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    session.run("clang-format", "--dry-run", "-Werror", *sources)
    session.run("codespell")
    session.run("python", "dev/write_stubs.py", "--check")


@nox.session
def stubs(session: nox.Session) -> None:
    """Write python/fusednn/_core.pyi; with ``-- --check`` compare it only."""
    install_package(session, *groups("stubs"))
    session.run("python", "dev/write_stubs.py", *session.posargs)


@nox.session
def symbols(session: nox.Session) -> None:
    """Look for symbols that leak between instruction sets or out of the library, and at its ABI."""
    build_wheel(session)
    objects = str(build_dir(session) / "objects")
    session.run("python", "dev/check_symbols.py", objects)
    session.run("python", "dev/check_abi.py", objects)


@nox.session
def tidy(session: nox.Session) -> None:
    """Run clang-tidy over csrc, compiled as CMake says."""
    session.install(*groups("tidy"))
    session.install("--no-deps", "jaxlib>=0.8")  # its headers, for csrc/xla
    env = cmake_environment(session)
    ask = "from importlib.util import find_spec as find; print(find('jaxlib').origin)"
    jaxlib = Path(str(session.run("python", "-c", ask, silent=True)).strip())
    headers = jaxlib.parent / "include"
    session.run("cmake", "--preset", "tidy", f"-DFUSEDNN_JAX_INCLUDE={headers}", env=env)
    session.run("run-clang-tidy.py", "-p", "build/tidy", "-quiet", *session.posargs)


@nox.session
def cuda_required(session: nox.Session) -> None:
    """Check that FUSEDNN_CUDA=ON stops the build, naming itself, where there is no toolkit."""
    said = session.run(
        *("cmake", "-S", ".", "-B", session.create_tmp(), "-G", "Ninja", "-DFUSEDNN_CUDA=ON"),
        "-DFUSEDNN_NVCC=FALSE",  # a machine that has a toolkit must not find it
        env=cmake_environment(session),
        success_codes=[1],
        silent=True,
    )
    session.log("%s", said)
    if "FUSEDNN_CUDA=ON needs the CUDA toolkit" not in " ".join(str(said).split()):
        session.error("CMake failed, but not for the lack of a CUDA toolkit")


SANITIZERS = {
    # Of the numbers of threads one is enough: others change who computes a part, not which parts.
    # What a neighbour costs is no question to a program that a sanitizer slows down.
    "address": (
        *("address,undefined", "libasan.so"),
        *("-k", "not threads1 and not threads2 and not neighbour"),
        *("tests/test_activation_ops.py", "tests/test_batch_norm_ops.py"),
        *("tests/test_batch_norm_staged.py", "tests/test_optimizer_ops.py"),
        *("tests/test_op_errors.py", "tests/test_optimizer_op_errors.py"),
        *("tests/test_streams.py", "tests/test_threads.py"),
        "tests/test_blas_threads.py",
        *("tests/test_binding.py", "tests/test_optimizer_lists.py"),
        "tests/test_optimizer_lists_in_threads.py",
        *("tests/test_quantized_state.py", "tests/test_quantized_averages.py"),
        "tests/test_stochastic_rounding.py",
        *("tests/test_c_api.py", "tests/test_c_api_dlpack.py", "tests/test_c_api_random.py"),
        "tests/test_hostile_arrays.py",
    ),
    # Of what runs on one thread there is nothing to learn; threads that OpenBLAS starts in a forked
    # child, the sanitizer takes for those of the parent.
    "thread": (
        *("thread", "libtsan.so"),
        "-k",
        "(threads5 or test_threads or blas_threads or lists_in_threads) "
        "and not neighbour and not products_work_after_fork",
        *("tests/test_activation_ops.py", "tests/test_batch_norm_ops.py"),
        *("tests/test_batch_norm_staged.py", "tests/test_optimizer_ops.py"),
        *("tests/test_optimizer_lists_in_threads.py", "tests/test_threads.py"),
        "tests/test_blas_threads.py",
    ),
}


@nox.session
@nox.parametrize("kind", list(SANITIZERS), ids=list(SANITIZERS))
def sanitize(session: nox.Session, kind: str) -> None:
    """Run the kernels' tests under the sanitizers: address with undefined behaviour, or thread."""
    compiled_with, runtime, *tests = SANITIZERS[kind]
    # All instruction sets are one code; compiling it once, hardly optimised, saves minutes.
    session.install(
        f"-Cbuild-dir=build/sanitize-{kind}",
        f"-Ccmake.define.FUSEDNN_SANITIZE={compiled_with}",
        f"-Ccmake.define.FUSEDNN_ISAS={PORTABLE_UNIT}",
        *("-Ccmake.define.FUSEDNN_CUDA=OFF", "-Ccmake.build-type=RelWithDebInfo"),
        *("-Ccmake.define.CMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1", "-Cinstall.strip=false"),
        *(".", *groups("kernels")),
    )
    run_pytest(session, *tests, **sanitizer_environment(session, runtime))


@nox.session
@nox.parametrize("kind", ["plain", "address", "thread"], ids=["plain", "address", "thread"])
def cuda_sim(session: nox.Session, kind: str) -> None:
    """Run the CUDA kernels on the CPU, in many orders of their threads."""
    install_package(session, *groups("kernels"))
    env = {"FUSEDNN_CUDA_SIM": str(build_cuda_sim(session, kind))}
    if kind == "address":
        env = sanitizer_environment(session, "libasan.so", **env)
    elif kind == "thread":
        # The tests read what is found from the log; the same once more is one more finding.
        options = (
            *("ignore_noninstrumented_modules=1", "die_after_fork=0"),
            *("suppress_equal_stacks=0", "suppress_equal_addresses=0"),
            f"log_path={Path(session.create_tmp()).absolute() / 'races'}",
        )
        env = sanitizer_environment(session, "libtsan.so", TSAN_OPTIONS=":".join(options), **env)
    # Whether threads wait for each other hardly depends on the type of numbers, and the sanitizer
    # is slow: float32, and of one device bfloat16, whose vectors have twice as many elements.
    choice = "(not float64 and not float16) or (bfloat16 and three)"
    run_pytest(session, "tests/cuda_sim", *(("-k", choice) if kind == "thread" else ()), **env)


@nox.session
def mutations(session: nox.Session) -> None:
    """Plant bugs in the CUDA kernels, one at a time: the simulator's tests must notice each.

    ``-- --short`` plants those of the short list only.
    """
    install_package(session, *groups("kernels"))
    build_cuda_sim(session)
    session.run("python", "tests/cuda_sim/mutations.py", *session.posargs)


@nox.session
def cuda_compile(session: nox.Session) -> None:
    """Compile the CUDA kernels with nvcc: no warnings, no spills; load them; a small library.

    Needs no GPU. What follows ``--`` is for the check of one architecture, which is then alone.
    """
    install_package(session)
    if not shutil.which("nvcc"):
        session.install(*groups("nvcc"))
    session.run("python", "dev/check_cuda_compile.py", "--load", *session.posargs)
    if not session.posargs:
        session.run("python", "dev/check_cuda_library.py", env=cmake_environment(session))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, check its size and parts, install it alone, check room, import and start."""
    session.env["PIP_COMPILE"] = "1"  # byte code counts, as pip makes it unless told otherwise
    session.run("python", "dev/check_wheel.py", str(build_wheel(session)))
    install_package(session)
    session.run("python", "dev/check_installed_size.py")
    session.run("python", "dev/check_import.py")
    session.run("python", "dev/smoke.py")
    session.install(
        "--no-deps", "scikit-learn>=1.4"
    )  # its file of digits, which is all that is read
    session.run("python", "dev/check_start.py")


@nox.session
def c_examples(session: nox.Session) -> None:
    """Build the C and C++ examples from an installed wheel, both ways, and what docs/c.md has."""
    install_package(session, *groups("build"))

    def ask(option: str) -> str:
        return str(session.run("python", "-m", "fusednn", option, silent=True)).strip()

    c_and_cpp = {
        "examples/c/batch_norm.c": ("cc", "-std=c99"),
        "examples/cpp/train.cpp": ("c++", "-std=c++17", "-O2", "-pthread"),
    }
    for source, compiler in c_and_cpp.items():
        folder, name = Path(session.create_tmp()), Path(source).stem
        program = str(folder / name)
        flags = ("-Wall", "-Wextra", "-Werror", ask("--includes"), source, *ask("--libs").split())
        session.run(*compiler, *flags, "-lm", "-o", program, external=True)
        session.run(program, external=True)
        build = str(folder / f"build-{name}")
        where = f"-Dfusednn_DIR={ask('--cmakedir')}"
        session.run("cmake", "-S", str(Path(source).parent), "-B", build, "-G", "Ninja", where)
        session.run("cmake", "--build", build)
        session.run(f"{build}/{name}", external=True)
    session.run("python", "dev/check_c_page.py", env={"CMAKE_GENERATOR": "Ninja"})


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Install on every supported Python and use the package for a second."""
    # The binding is what depends on Python's version; one instruction set's kernels do for it, and
    # are compiled for the first only.
    folder = Path("build") / f"pythons-{PORTABLE_UNIT}"
    session.install(f"-Cbuild-dir={folder}", f"-Ccmake.define.FUSEDNN_ISAS={PORTABLE_UNIT}", ".")
    session.run("python", "dev/smoke.py")
