// The table of functions of libfusednn_cuda.so.
#include <stdio.h>

#include <atomic>

#include "cuda/drivers.h"
#include "cuda/explain.h"
#include "cuda/kept_blocks.h"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

thread_local char message[1024];

CudaOutcome outcome(cudaError_t e, const char* what, int device = 0) {
  if (e == cudaSuccess) return {FNN_SUCCESS, ""};
  cudaGetLastError();  // what is told is not told again to the next who asks
  const int written =
      snprintf(message, sizeof message, "%s: %s (%s)", what, cudaGetErrorString(e), cudaGetErrorName(e));
  char advice[512];
  explain(e, device, advice, sizeof advice);
  if (advice[0] != '\0' && written > 0 && static_cast<size_t>(written) < sizeof message) {
    snprintf(message + written, sizeof message - static_cast<size_t>(written), ": %s", advice);
  }
  cudaGetLastError();
  return {e == cudaErrorMemoryAllocation ? FNN_ERROR_MEMORY : FNN_ERROR_DEVICE, message};
}

// Whether the kernels are written for the device; asked of the driver once.
bool is_supported(int device) {
  constexpr int kRemembered = 64;
  static std::atomic<bool> supported[kRemembered];
  const bool remembers = device < kRemembered;
  if (remembers && supported[device].load(std::memory_order_relaxed)) return true;
  const int capability = capability_of(device);
  const bool good = capability == 0 || capability >= kLeastCapability;  // where it cannot be told, the launch tells
  if (remembers && good && capability != 0) supported[device].store(true, std::memory_order_relaxed);
  return good;
}

CudaOutcome refuse_capability(const char* what, int device) {
  char reason[512];
  explain_capability(device, reason, sizeof reason);
  snprintf(message, sizeof message, "%s: %s", what, reason);
  return {FNN_ERROR_DEVICE, message};
}

// f(stream) with the call's device chosen.
template <class F>
CudaOutcome at(const CudaPlace& place, const char* what, const F& f) {
  int before = 0;
  cudaError_t e = cudaGetDevice(&before);
  if (e != cudaSuccess) return outcome(e, what, place.device);
  if (before != place.device && (e = cudaSetDevice(place.device)) != cudaSuccess) {
    return outcome(e, what, place.device);
  }
  const bool supported = is_supported(place.device);
  if (supported) e = f(static_cast<cudaStream_t>(place.stream));
  const CudaOutcome result = supported ? outcome(e, what, place.device) : refuse_capability(what, place.device);
  if (before != place.device) cudaSetDevice(before);
  return result;
}

CudaOutcome run_device_count(int32_t* count) { return outcome(cudaGetDeviceCount(count), "cudaGetDeviceCount"); }

CudaOutcome run_versions(int32_t* driver, int32_t* runtime) {
  cudaError_t e = cudaDriverGetVersion(driver);
  if (e == cudaSuccess) e = cudaRuntimeGetVersion(runtime);
  return outcome(e, "cudaDriverGetVersion");
}

CudaOutcome run_release_memory(int64_t* bytes) { return outcome(KeptBlocks::all().release(bytes), "release_memory"); }

CudaOutcome run_device_of(const void* pointer, int32_t* device) {
  cudaPointerAttributes attributes{};
  const cudaError_t e = cudaPointerGetAttributes(&attributes, pointer);
  *device = e == cudaSuccess && attributes.type != cudaMemoryTypeUnregistered ? attributes.device : -1;
  return outcome(e, "cudaPointerGetAttributes");
}

CudaOutcome run_wait(const CudaPlace& place, void* other) {
  return at(place, "wait", [&](cudaStream_t stream) {
    const auto awaited = static_cast<cudaStream_t>(other);
    // Asked first, as CUDA would refuse the event and end the capture.
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaStreamCaptureStatus other_status = cudaStreamCaptureStatusNone;
    cudaError_t e = cudaStreamIsCapturing(stream, &status);
    if (e == cudaSuccess) e = cudaStreamIsCapturing(awaited, &other_status);
    if (e == cudaSuccess && status != other_status) e = cudaErrorStreamCaptureIsolation;
    cudaEvent_t event = nullptr;
    if (e == cudaSuccess) e = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (e != cudaSuccess) return e;
    e = cudaEventRecord(event, awaited);
    if (e == cudaSuccess) e = cudaStreamWaitEvent(stream, event, 0);
    cudaEventDestroy(event);  // which CUDA does when it has happened
    return e;
  });
}

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
CudaOutcome run_stream_pass(const StreamPass& p, const CudaPlace& place) {
  return at(place, "stream", [&](cudaStream_t stream) { return stream_pass(p, stream); });
}

CudaOutcome run_merge_statistics(const MergedStatistics& p, const CudaPlace& place) {
  return at(place, "merge_statistics", [&](cudaStream_t) { return merge_statistics(p, place); });
}
template <BatchNormFunction BatchNormFunctions::* function>
CudaOutcome run_batch_norm(const BatchNorm& p, const CudaPlace& place) {
  return at(place, "batch_norm", [&](cudaStream_t) { return batch_norm(function, p, place); });
}

CudaOutcome run_describe(int32_t device, CudaDevice* description) {
  cudaDeviceProp properties;
  const cudaError_t e = cudaGetDeviceProperties(&properties, device);
  if (e != cudaSuccess) return outcome(e, "cudaGetDeviceProperties", device);
  snprintf(description->name, sizeof description->name, "%s", properties.name);
  description->capability = properties.major * 10 + properties.minor;
  description->multiprocessors = properties.multiProcessorCount;
  description->memory = static_cast<int64_t>(properties.totalGlobalMem);
  return outcome(cudaSuccess, "");
}

CudaBackend make() {
  CudaBackend b{};
  b.version = kCudaBackendVersion;
  b.device_count = run_device_count;
  b.versions = run_versions;
  b.describe = run_describe;
  b.batch_norm_forward = run_batch_norm<&BatchNormFunctions::forward>;
  b.batch_norm_backward = run_batch_norm<&BatchNormFunctions::backward>;
  b.batch_norm_backward_from_output = run_batch_norm<&BatchNormFunctions::backward_from_output>;
  b.batch_norm_inference = run_batch_norm<&BatchNormFunctions::inference>;
  b.batch_norm_inference_backward = run_batch_norm<&BatchNormFunctions::inference_backward>;
  b.batch_norm_statistics = run_batch_norm<&BatchNormFunctions::statistics>;
  b.batch_norm_apply = run_batch_norm<&BatchNormFunctions::apply>;
  b.batch_norm_backward_reduce = run_batch_norm<&BatchNormFunctions::backward_reduce>;
  b.batch_norm_backward_apply = run_batch_norm<&BatchNormFunctions::backward_apply>;
  b.merge_statistics = run_merge_statistics;
  b.leaky_relu = run_leaky_relu;
  b.optimizer_step = run_optimizer_step;
  b.optimizer_list_destroy = optimizer_list_destroy;
  b.squared_norms = run_squared_norms;
  b.stream_pass = run_stream_pass;
  b.device_of = run_device_of;
  b.wait = run_wait;
  b.release_memory = run_release_memory;
  return b;
}

}  // namespace
}  // namespace FNN_UNIT
}  // namespace fusednn

extern "C" __attribute__((visibility("default"))) const fusednn::CudaBackend* fnn_cuda_backend() {
  static const fusednn::CudaBackend backend = fusednn::make();
  return &backend;
}
