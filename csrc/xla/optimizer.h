// One step of any optimizer over a list of arrays in XLA's programs.
//
// Operands and results in their order; those in brackets may be absent. All but lr, grad_scale and grads are operands and
// results at once; states come state by state, each with one array per parameter:
//
//   lr, step, [grad_scale], grads, params, states -> stepped, step, params, states
//
// lr and grad_scale are numbers that may change without compiling the program anew. `step` (float32) is the number of
// updates made so far, and not read after; `stepped` (int32) is 0 where skip_nonfinite left everything as it was. Under
// vmap each member of the batch is stepped by its own numbers.
#pragma once

#include <algorithm>

#include "xla/handler.h"

namespace fusednn::handlers {

struct OptimizerAttributes {
  static constexpr size_t kNumbers = 13 + FNN_MAX_HYPERPARAMETERS;
  explicit OptimizerAttributes(const double* n)
      : kind(integer(n[0])),
        convention(integer(n[1])),
        count(integer(n[2])),
        states(integer(n[3])),
        given(integer(n[4])),
        weight_decay(n[5]),
        decoupled_weight_decay(integer(n[6])),
        maximize(integer(n[7])),
        has_grad_scale(integer(n[8])),
        clip_value(n[9]),
        max_norm_each(n[10]),
        max_norm(n[11]),
        skip_nonfinite(integer(n[12])),
        hyperparameters(n + 13) {}

  int64_t kind;
  int64_t convention;
  int64_t count;   // of parameters
  int64_t states;  // bit i: state i of the kind is there
  int64_t given;   // bit i: hyperparameters[i] was given
  double weight_decay;
  int64_t decoupled_weight_decay;
  int64_t maximize;
  int64_t has_grad_scale;
  double clip_value;
  double max_norm_each;
  double max_norm;
  int64_t skip_nonfinite;
  const double* hyperparameters;  // the first, lr, is an operand: its place is not read

  fnn_optimizer_options options() const {
    fnn_optimizer_options o{};
    o.size = sizeof o;
    o.convention = static_cast<int32_t>(convention);
    o.given = static_cast<uint32_t>(given);
    std::copy_n(hyperparameters, FNN_MAX_HYPERPARAMETERS, o.hyperparameters);
    o.weight_decay = weight_decay;
    o.decoupled_weight_decay = static_cast<int32_t>(decoupled_weight_decay);
    o.maximize = static_cast<int32_t>(maximize);
    o.grad_scale = 1.0;
    o.clip_value = clip_value;
    o.max_norm_each = max_norm_each;
    o.max_norm = max_norm;
    o.skip_nonfinite = static_cast<int32_t>(skip_nonfinite);
    return o;
  }
};

ffi::Error optimizer_step(Device device, const OptimizerAttributes& given, ffi::RemainingArgs operands,
                          ffi::RemainingRets results);

}  // namespace fusednn::handlers
