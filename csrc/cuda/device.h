// What a driver has of its call's device: a stream, workspace, limits. And the tables that the .cu files of the storage
// types export to backend.cu.
#pragma once

#include "core/problem.h"
#include "cuda/batch_norm_schedule.h"
#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

class Device {
 public:
  // allocate(context, bytes) returns null where it cannot; what it returned stays until the call's work is done.
  using Allocate = void* (*)(void* context, size_t bytes);

  Device(cudaStream_t stream, const DeviceLimits& limits, Allocate allocate, void* context)
      : stream_(stream), limits_(limits), allocate_(allocate), context_(context) {}

  cudaStream_t stream() const { return stream_; }
  const DeviceLimits& limits() const { return limits_; }
  cudaError_t workspace(size_t bytes, void** memory) {
    if (bytes == 0) return cudaSuccess;
    *memory = allocate_(context_, bytes);
    return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
  }

 private:
  cudaStream_t stream_;
  DeviceLimits limits_;
  Allocate allocate_;
  void* context_;
};

using BatchNormFunction = cudaError_t (*)(const BatchNorm&, Device&);
struct BatchNormFunctions {
  BatchNormFunction forward, backward, backward_from_output, inference, inference_backward, statistics, apply,
      backward_reduce, backward_apply;
};
extern const BatchNormFunctions batch_norm_float32, batch_norm_float64, batch_norm_float16, batch_norm_bfloat16;

inline const BatchNormFunctions& batch_norm_functions(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:  return batch_norm_float64;
    case DType::kFloat16:  return batch_norm_float16;
    case DType::kBFloat16: return batch_norm_bfloat16;
    case DType::kFloat32:  break;
  }
  return batch_norm_float32;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
