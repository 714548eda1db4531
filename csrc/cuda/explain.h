// What a failure of CUDA means to the caller and what helps, after the runtime's own words: one message, from the error,
// from what was called, and from what the driver and the device say of themselves.
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

// The oldest capability that the kernels are written for: 7.5.
constexpr int kLeastCapability = 75;

#ifdef FNN_CUDA_ARCHITECTURES
constexpr const char* kArchitectures = FNN_CUDA_ARCHITECTURES;
#else
constexpr const char* kArchitectures = "none";
#endif

// 0 where it cannot be told.
inline int capability_of(int device) {
  int major = 0, minor = 0;
  const bool known = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess;
  return known ? major * 10 + minor : 0;
}

inline void explain_driver(char* text, size_t size) {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) {
    snprintf(
        text, size,
        "no NVIDIA driver was found: install one that supports CUDA %d, and start containers with access to the GPUs",
        runtime / 1000);
  } else {
    snprintf(text, size, "the NVIDIA driver supports CUDA %d.%d, the kernels need CUDA %d: update the driver",
             driver / 1000, driver % 1000 / 10, runtime / 1000);
  }
}

inline void explain_capability(int device, char* text, size_t size) {
  const int capability = capability_of(device);
  if (capability > 0 && capability < kLeastCapability) {
    snprintf(text, size, "cuda:%d must have compute capability %d.%d or later. Received: capability %d.%d", device,
             kLeastCapability / 10, kLeastCapability % 10, capability / 10, capability % 10);
  } else {
    snprintf(text, size,
             "the kernels are compiled for %s, cuda:%d has compute capability %d.%d: build with "
             "FUSEDNN_CUDA_ARCHITECTURES=%d-real",
             kArchitectures, device, capability / 10, capability % 10, capability);
  }
}

inline void explain_memory(int device, char* text, size_t size) {
  constexpr size_t kMiB = size_t{1} << 20;
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) total = 0;
  if (total == 0) {
    snprintf(text, size, "the workspace does not fit into the memory of cuda:%d: free some of it", device);
  } else {
    snprintf(
        text, size,
        "the workspace does not fit into what is left of cuda:%d's memory, %zu of %zu MiB: free arrays, or what the "
        "array's package keeps (torch.cuda.empty_cache, CuPy's free_all_blocks)",
        device, free / kMiB, total / kMiB);
  }
}

inline void explain_device(int device, char* text, size_t size) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count < 1) {
    snprintf(text, size, "CUDA sees no NVIDIA GPU. Received: cuda:%d", device);
  } else if (count == 1) {
    snprintf(text, size, "the device must be cuda:0, the one that CUDA sees. Received: cuda:%d", device);
  } else {
    snprintf(text, size, "the device must be one that CUDA sees, cuda:0 to cuda:%d. Received: cuda:%d", count - 1,
             device);
  }
}

// Writes an empty text where there is nothing to add. `device` is the call's.
inline void explain(cudaError_t e, int device, char* text, size_t size) {
  const char* fixed = "";
  switch (e) {
    case cudaErrorInsufficientDriver:     return explain_driver(text, size);
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:  return explain_capability(device, text, size);
    case cudaErrorMemoryAllocation:       return explain_memory(device, text, size);
    case cudaErrorInvalidDevice:          return explain_device(device, text, size);
    case cudaErrorNoDevice:
      fixed = "CUDA sees no NVIDIA GPU: see whether `nvidia-smi` lists one and what CUDA_VISIBLE_DEVICES hides";
      break;
    case cudaErrorDevicesUnavailable:
      fixed = "another process holds the GPU alone: wait for it, or see `nvidia-smi -q -d COMPUTE`";
      break;
    case cudaErrorSystemNotReady:
      fixed = "the driver's services are not running: on machines with NVSwitch, start the fabric manager";
      break;
    case cudaErrorSystemDriverMismatch:
      fixed = "the driver's library and its kernel module are of different versions: restart the machine";
      break;
    case cudaErrorStreamCaptureUnsupported:
      fixed =
          "while a CUDA graph is captured nothing can be allocated: make the call once before, on the same stream "
          "and with arrays of the same sizes";
      break;
    case cudaErrorLaunchOutOfResources:
    case cudaErrorCooperativeLaunchTooLarge:
      fixed = "the kernel needs more of the GPU than this process may use: see whether MPS or MIG limits it";
      break;
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorAssert:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
      fixed =
          "this kernel or one that was started before it failed, and nothing more can be computed on the GPU: "
          "restart the process; `compute-sanitizer` finds the place";
      break;
    case cudaErrorECCUncorrectable:
      fixed = "the GPU's memory has lost data: restart the process, and have the GPU looked at if it happens again";
      break;
    default: break;
  }
  snprintf(text, size, "%s", fixed);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
