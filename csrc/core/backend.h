// The backend table: what a device, and on the CPU every instruction set, can do. One table each, the same functions.
// A function returns false where it could not allocate its workspace; nothing was written then.
#pragma once

#include "core/problem.h"

namespace fusednn {

struct Backend {
  const char* name;
  bool (*leaky_relu)(const LeakyRelu&);
  bool (*batch_norm_forward)(const BatchNorm&);
  bool (*batch_norm_backward)(const BatchNorm&);
  bool (*batch_norm_backward_from_output)(const BatchNorm&);
  bool (*batch_norm_inference)(const BatchNorm&);
  bool (*batch_norm_inference_backward)(const BatchNorm&);
  bool (*batch_norm_statistics)(const BatchNorm&);
  bool (*batch_norm_apply)(const BatchNorm&);
  bool (*batch_norm_backward_reduce)(const BatchNorm&);
  bool (*batch_norm_backward_apply)(const BatchNorm&);
  bool (*optimizer_step)(const OptimizerStep&, bool* stepped);
  bool (*squared_norms)(const SquaredNorms&);
  void (*stream_pass)(const StreamPass&);
};

// The CPU's table for the instruction set in use (cpu/dispatch.cpp).
const Backend& cpu_backend();

}  // namespace fusednn
