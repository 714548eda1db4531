// BatchNorm's drivers as C functions, with a device of any size (test_cuda_batch_norm.py).
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

}  // namespace

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
