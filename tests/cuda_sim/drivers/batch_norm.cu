// BatchNorm's drivers as C functions, with a device of any size (test_cuda_batch_norm.py).
#include "cuda/batch_norm_columns.cuh"
#include "cuda/batch_norm_runs.cuh"
#include "cuda/device.h"
#include "cuda/divisor.cuh"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace fusednn;

namespace {

struct Workspace {
  void* memory = nullptr;
  static void* allocate(void* self, size_t bytes) {
    auto* workspace = static_cast<Workspace*>(self);
    return cudaMalloc(&workspace->memory, bytes) == cudaSuccess ? workspace->memory : nullptr;
  }
  ~Workspace() { cudaFree(memory); }
};

// What the threads of a block take of a leaf: for each of their windows its first element's index and which are chosen.
template <class Geometry>
FNN_KERNEL(kThreads, 1)
tell_windows(const __grid_constant__ Geometry geometry, int64_t strip, int64_t number, int64_t* to) {
  const auto leaf = geometry.leaf(strip, number);
  auto cursor = leaf.first;
  for (int i = 0; i < Geometry::kItems; ++i, geometry.advance(cursor)) {
    const Window window = geometry.window(leaf, cursor);
    int64_t* const own = to + 2 * (int64_t{i} * kThreads + threadIdx.x);
    own[0] = window.index;
    own[1] = window.chosen;
  }
}

struct LeafAsked {
  int64_t strip, number;  // negative: the last one
};

template <class Geometry>
cudaError_t tell_leaf(const BatchNorm& problem, LeafAsked& leaf, int64_t* to) {
  const Geometry geometry(problem);
  if (leaf.strip < 0) leaf.strip = geometry.strips() - 1;
  if (leaf.number < 0) leaf.number = geometry.leaves() - 1;
  LaunchShape shape;
  shape.grid = dim3(1);
  shape.block = dim3(kThreads);
  return launch(tell_windows<Geometry>, shape, nullptr, geometry, leaf.strip, leaf.number, to);
}

}  // namespace

// Which elements of bfloat16 a leaf consists of, as windows: kItems for each of 256 threads.
EXPORT int simulated_leaf(const BatchNorm* problem, LeafAsked* leaf, int64_t* to) {
  return problem->inner > 1 ? tell_leaf<Runs<BFloat16, 1>>(*problem, *leaf, to)
                            : tell_leaf<Columns<BFloat16, 1>>(*problem, *leaf, to);
}

// `function`: its number in BatchNormFunctions. Returns the cudaError_t.
EXPORT int simulated_batch_norm(int function, const BatchNorm* problem, const DeviceLimits* limits) {
  Workspace workspace;
  Device device(nullptr, *limits, Workspace::allocate, &workspace);
  const BatchNormFunctions& all = batch_norm_functions(problem->dtype);
  const BatchNormFunction functions[] = {all.forward,   all.backward,           all.backward_from_output,
                                         all.inference, all.inference_backward, all.statistics,
                                         all.apply,     all.backward_reduce,    all.backward_apply};
  return functions[function](*problem, device);
}

EXPORT void simulated_schedule(const ResidentProblem* problem, const DeviceLimits* limits, ResidentSchedule* schedule) {
  *schedule = choose_schedule(*problem, *limits);
}

EXPORT int64_t simulated_leaves_per_part(int64_t strips, int64_t leaves, int64_t fold) {
  return leaves_per_part(strips, leaves, fold);
}

EXPORT int64_t simulated_quotient(int64_t n, int64_t divisor) { return Divisor(divisor).quotient(n); }
