// The table of functions of libfusednn_cuda.so.
#include <stdio.h>

#include "cuda/drivers.h"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

thread_local char message[512];

CudaOutcome outcome(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return {FNN_SUCCESS, ""};
  snprintf(message, sizeof message, "%s: %s (%s)", what, cudaGetErrorString(e), cudaGetErrorName(e));
  cudaGetLastError();
  return {e == cudaErrorMemoryAllocation ? FNN_ERROR_MEMORY : FNN_ERROR_DEVICE, message};
}

// f(stream) with the call's device chosen.
template <class F>
CudaOutcome at(const CudaPlace& place, const char* what, const F& f) {
  int before = 0;
  cudaError_t e = cudaGetDevice(&before);
  if (e != cudaSuccess) return outcome(e, what);
  if (before != place.device && (e = cudaSetDevice(place.device)) != cudaSuccess) return outcome(e, what);
  e = f(static_cast<cudaStream_t>(place.stream));
  if (before != place.device) cudaSetDevice(before);
  return outcome(e, what);
}

CudaOutcome run_device_count(int32_t* count) { return outcome(cudaGetDeviceCount(count), "cudaGetDeviceCount"); }

CudaOutcome run_leaky_relu(const LeakyRelu& p, const CudaPlace& place) {
  return at(place, "leaky_relu", [&](cudaStream_t stream) { return leaky_relu(p, stream); });
}
CudaOutcome run_optimizer_step(const OptimizerStep& p, const fnn_device_scalars& scalars, const CudaPlace& place,
                               CudaOptimizerList** list) {
  return at(place, "optimizer_step", [&](cudaStream_t stream) { return optimizer_step(p, scalars, stream, list); });
}
CudaOutcome run_squared_norms(const SquaredNorms& p, const CudaPlace& place) {
  return at(place, "squared_norms", [&](cudaStream_t stream) { return squared_norms(p, stream); });
}

CudaBackend make() {
  CudaBackend b{};
  b.version = kCudaBackendVersion;
  b.device_count = run_device_count;
  b.leaky_relu = run_leaky_relu;
  b.optimizer_step = run_optimizer_step;
  b.optimizer_list_destroy = optimizer_list_destroy;
  b.squared_norms = run_squared_norms;
  return b;
}

}  // namespace
}  // namespace FNN_UNIT
}  // namespace fusednn

extern "C" __attribute__((visibility("default"))) const fusednn::CudaBackend* fnn_cuda_backend() {
  static const fusednn::CudaBackend backend = fusednn::make();
  return &backend;
}
