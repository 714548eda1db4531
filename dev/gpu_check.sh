#!/usr/bin/env bash
# Builds, tests and measures the CUDA kernels on a machine with an NVIDIA GPU, without network, in ten minutes:
#
#   dev/gpu_check.sh [build|test|sanitize|bench|all] [--dry-run]
#
# Needs nvcc (on PATH, or of PyPI's packages in Python's environment), cmake, ninja, and a Python with pybind11, numpy,
# ml_dtypes, pytest and torch (PYTHON names it); CuPy is tested where it is installed. Stages go on after a failure of one
# before, each within seconds of its own. Logs, JSON and a summary lie in $OUT, by default build/gpu_check, objects and the
# package always in build/gpu_check.
#
# --dry-run does what can be done without a GPU: it compiles for compute capability 9.0, as `build` does where no GPU is
# found, and for one of the CPU's instruction sets, runs the tests on stand-ins (with the simulator where FUSEDNN_CUDA_SIM or
# build/cuda_sim has it) and every benchmark once on the CPU.
set -uo pipefail

# Seconds: 560 in all.
declare -A limit=([build]=160 [test]=130 [sanitize]=130 [bench]=140)
stages=()
dry=
for argument in "$@"; do
  case $argument in
    build | test | sanitize | bench) stages+=("$argument") ;;
    all) stages=(build test sanitize bench) ;;
    --dry-run) dry=yes ;;
    *)
      sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
done
((${#stages[@]})) || stages=(build test sanitize bench)

# A machine without a GPU has few cores, and others may use them.
if [[ -n $dry ]] || ! command -v nvidia-smi > /dev/null; then
  for stage in "${!limit[@]}"; do limit[$stage]=$((4 * limit[$stage])); done
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
work=$root/build/gpu_check
out=${OUT:-$work}
python=${PYTHON:-python3}
mkdir -p "$work" "$out"
# What the stages use of the build.
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
[[ -z $dry ]] || export FUSEDNN_GPU_STAND_IN=1

# The GPU's own compute capability, without the dot: nothing else is compiled for. Nothing where there is no GPU.
architecture() {
  [[ -n $dry ]] || nvidia-smi --query-gpu=compute_cap --format=csv,noheader -i 0 | tr -d '. ' | grep -xE '[0-9]+'
}

# Where there is no toolkit: the compiler of packages that jax, too, may have installed.
use_nvcc_of_pypi() {
  local found
  found=$("$python" -c 'import sys; sys.path.insert(0, "dev"); from check_cuda_compile import find_nvcc
path, options = find_nvcc(); print(path, *options)') || return
  NVCC_APPEND_FLAGS=${found#* }
  PATH=$(dirname "${found%% *}"):$PATH
  export NVCC_APPEND_FLAGS PATH
  command -v nvcc
}

build() {
  local gpu arch
  gpu=$(architecture)
  arch=${gpu:-90}
  [[ -n $gpu ]] || echo "NO GPU: compiled for compute capability 9.0, and not tried on it"
  command -v nvcc || use_nvcc_of_pypi || return
  nvcc --version | tail -n 2
  "$python" --version
  pybind11_DIR=$("$python" -m pybind11 --cmakedir) || return
  export pybind11_DIR
  # Every instruction set gives the same bits: one is enough where nothing is measured.
  local isas=()
  if [[ -n $dry ]]; then
    [[ $(uname -m) == x86_64 ]] && isas=(-DFUSEDNN_ISAS=baseline) || isas=(-DFUSEDNN_ISAS=neon)
  fi
  cmake -S . -B "$work/objects" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFUSEDNN_CUDA=ON -DFUSEDNN_PYTHON=ON \
    -DFUSEDNN_CUDA_ARCHITECTURES="$arch-real" -DPython_EXECUTABLE="$(command -v "$python")" \
    -DCMAKE_INSTALL_PREFIX="$work/site" "${isas[@]}" &&
    cmake --build "$work/objects" &&
    nvcc -O3 -std=c++20 -arch="sm_$arch" -fmad=false -I csrc -o "$work/questions" benchmarks/gpu/questions.cu || return
  # The package's files, without what an editable installation may have left among them.
  rm -rf "$work/site" && mkdir -p "$work/site" && cp -r python/fusednn "$work/site/" &&
    find "$work/site" -name '*.so' -delete && cmake --install "$work/objects" > /dev/null || return
  ls -l "$work"/site/fusednn/lib/*.so
  "$python" -m fusednn info || return
  # Without a GPU the kernels' library is loaded all the same.
  "$python" -c 'from fusednn import _core; print("CUDA:", *_core.cuda_versions())' || return
  [[ -z $gpu ]] || "$python" -c 'from fusednn import _core; print(_core.cuda_describe(0))'
}

run_tests() {
  "$python" -m pytest -p no:cacheprovider tests/gpu -q --junitxml="$out/test.xml" "$@"
}

# Each of compute-sanitizer's tools over a few short tests; a machine may not let them run at all.
sanitize() {
  [[ -z $dry ]] || {
    echo "NOT RUN: a dry run, there is no GPU"
    return 77
  }
  command -v compute-sanitizer > /dev/null || {
    echo "NOT RUN: compute-sanitizer is not on PATH"
    return 77
  }
  local tool status=0 ran=0 said
  for tool in memcheck racecheck synccheck initcheck; do
    echo "--- $tool"
    said=$(FUSEDNN_GPU_PACKAGES=torch timeout 30 compute-sanitizer --tool "$tool" --error-exitcode 9 --launch-timeout 0 "$python" -m pytest \
      -p no:cacheprovider tests/gpu/test_batch_norm.py tests/gpu/test_optimizers.py -q -m short \
      -k 'torch and (in_place or nonfinite or global_norm) and not float64' 2>&1)
    case $? in
      0) echo "$tool: nothing found" && ran=1 ;;
      9) echo "$said" && echo "$tool: FOUND ERRORS" && status=1 ran=1 ;;
      124) echo "$tool: NOT RUN: not done in 30 s" ;;
      *)
        echo "$said" | tail -n 5
        # The tool's own failures and pytest's have the same status: the latter end with a summary.
        if grep -qE '^(=+ )?([0-9]+ (failed|error|deselected)|no tests ran)' <<< "$said"; then
          echo "$tool: THE TESTS FAILED" && status=1 ran=1
        else
          echo "$tool: NOT RUN: it does not work here"
        fi
        ;;
    esac
  done
  ((ran)) || return 77
  return $status
}

bench() {
  if [[ -n $dry ]]; then
    local simulated=${FUSEDNN_CUDA_SIM:-$root/build/cuda_sim/tests/cuda_sim}/fusednn_cuda_sim_questions questions=()
    [[ ! -x $simulated ]] || questions=(--questions "$simulated")
    "$python" benchmarks/gpu --dry-run --json "$out/bench.json" "${questions[@]}"
  else
    "$python" benchmarks/gpu --seconds 110 --json "$out/bench.json" --questions "$work/questions"
  fi
}

declare -A result seconds
failures=0
run_stage() { # NAME COMMAND
  local start=$SECONDS status=0
  echo "=== $1, at most ${limit[$1]} s"
  # A shell of its own, which timeout can end with all that it started.
  export -f architecture use_nvcc_of_pypi build run_tests sanitize bench
  export work out python dry root
  timeout --kill-after=5 "${limit[$1]}" bash -uo pipefail -c "$2" < /dev/null 2>&1 | tee "$out/$1.log"
  status=${PIPESTATUS[0]}
  case $status in
    0) result[$1]=passed ;;
    77) result[$1]='NOT RUN' ;;
    124 | 137) result[$1]='OUT OF TIME' ;;
    *) result[$1]="FAILED ($status)" ;;
  esac
  ((status == 0 || status == 77)) || failures=$((failures + 1))
  seconds[$1]=$((SECONDS - start))
}

for stage in "${stages[@]}"; do
  case $stage in
    test) run_stage test run_tests ;;
    *) run_stage "$stage" "$stage" ;;
  esac
done

{
  printf '{"dry_run": %s, "commit": "%s", "stages": {' "$([[ -n $dry ]] && echo true || echo false)" \
    "$(git rev-parse --short=12 HEAD 2> /dev/null || echo unknown)"
  separator=
  for stage in "${stages[@]}"; do
    printf '%s"%s": {"result": "%s", "seconds": %s}' "$separator" "$stage" "${result[$stage]}" "${seconds[$stage]}"
    separator=', '
  done
  printf '}}\n'
} > "$out/summary.json"

echo
[[ -z $dry ]] || echo 'DRY RUN: nothing ran on a GPU'
for stage in "${stages[@]}"; do
  printf '%-10s %4s s of %3s s  %s\n' "$stage" "${seconds[$stage]}" "${limit[$stage]}" "${result[$stage]}"
done
printf '%-10s %4s s            %s stages failed; logs in %s\n' total "$SECONDS" "$failures" "$out"
((failures == 0))
