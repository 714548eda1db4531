// Which device a call is for, and the way there: the CPU's backend is part of this library, CUDA's is loaded on first
// use.
#pragma once

#include "core/backend.h"
#include "core/checks.h"
#include "core/cuda_backend.h"
#include "core/status.h"

namespace fusednn {

// Throws where this machine cannot run CUDA kernels: the Failure says why.
const CudaBackend& cuda_backend();

// The calling thread's settings, for arrays on this device.
CudaPlace cuda_place(int32_t device_id);
void check_cuda_settings(const fnn_cuda_settings& settings);
void set_cuda_settings(const fnn_cuda_settings& settings);

void require_done(const CudaOutcome& outcome);

inline bool on_cuda(const fnn_tensor& t) { return t.device_type == FNN_CUDA; }

// Runs a checked problem where `t` is: the one function of the CPU's table or the other of CUDA's.
template <class Problem>
void run_on_device_of(const fnn_tensor& t, bool (*Backend::*cpu)(const Problem&),
                      CudaOutcome (*CudaBackend::*cuda)(const Problem&, const CudaPlace&), const Problem& problem) {
  if (on_cuda(t)) {
    require_done((cuda_backend().*cuda)(problem, cuda_place(t.device_id)));
  } else {
    require_workspace((cpu_backend().*cpu)(problem));
  }
}

}  // namespace fusednn
