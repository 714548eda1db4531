// What libfusednn_cuda.so offers to libfusednn.so, which loads it on first use: one table, found by one symbol. Plain
// data and functions only, as the two are compiled by different compilers.
//
// Arrays are in the device's memory; arguments are checked. Nothing waits for the device: what is written is complete
// for whatever follows on the same stream. Only `global_norm` and `merge_statistics`' counts are the host's.
#pragma once

#include "core/problem.h"
#include "fusednn/fusednn.h"

namespace fusednn {

// Where a call runs, and what it may use there.
struct CudaPlace {
  int32_t device;
  void* stream;                  // cudaStream_t
  fnn_cuda_allocator workspace;  // `allocate` null: memory of the library's own, kept from call to call
  int32_t spare_multiprocessors;
};

// How a call ended. The message lives until the thread's next call.
struct CudaOutcome {
  fnn_status status;
  const char* message;
};

struct CudaDevice {
  char name[256];
  int32_t capability;  // 90 is 9.0
  int32_t multiprocessors;
  int64_t memory;
};

// What a list of an optimizer leaves on the device from one step to the next; null before the first.
struct CudaOptimizerList;

struct CudaBackend {
  int32_t version;  // kCudaBackendVersion
  CudaOutcome (*device_count)(int32_t* count);
  // As CUDA writes versions, 13000 is 13.0; the driver's is 0 where there is none.
  CudaOutcome (*versions)(int32_t* driver, int32_t* runtime);
  CudaOutcome (*describe)(int32_t device, CudaDevice* description);
  CudaOutcome (*leaky_relu)(const LeakyRelu&, const CudaPlace&);
  CudaOutcome (*batch_norm_forward)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_backward)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_backward_from_output)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_inference)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_inference_backward)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_statistics)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_apply)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_backward_reduce)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*batch_norm_backward_apply)(const BatchNorm&, const CudaPlace&);
  CudaOutcome (*merge_statistics)(const MergedStatistics&, const CudaPlace&);
  CudaOutcome (*optimizer_step)(const OptimizerStep&, const fnn_device_scalars&, const CudaPlace&,
                                CudaOptimizerList** list);
  void (*optimizer_list_destroy)(CudaOptimizerList* list);
  // Waits for the stream: `sums` are the host's.
  CudaOutcome (*squared_norms)(const SquaredNorms&, const CudaPlace&);
  CudaOutcome (*stream_pass)(const StreamPass&, const CudaPlace&);
  // The device that memory is of; -1 where CUDA knows nothing of it.
  CudaOutcome (*device_of)(const void* pointer, int32_t* device);
  // What the place's stream is given from now on waits for what `other` was given before.
  CudaOutcome (*wait)(const CudaPlace&, void* other);
  // Frees what the library keeps and nothing uses; adds up the bytes.
  CudaOutcome (*release_memory)(int64_t* bytes);
};

// The revision, raised where a meaning changes, and the sizes of all that crosses over: a library of before a struct grew
// is refused, not believed.
template <class... Structs>
constexpr int32_t version_of(uint32_t revision) {
  ((revision = revision * 31 + static_cast<uint32_t>(sizeof(Structs))), ...);
  return static_cast<int32_t>(revision & 0x7fffffff);
}

constexpr int32_t kCudaBackendVersion =
    version_of<CudaBackend, CudaPlace, CudaOutcome, CudaDevice, LeakyRelu, BatchNorm, MergedStatistics, OptimizerStep,
               fnn_device_scalars, SquaredNorms, StreamPass>(5);

// The symbol: const CudaBackend* fnn_cuda_backend().
using CudaBackendEntry = const CudaBackend* (*)();

}  // namespace fusednn
