// What the handlers of BatchNorm are told besides their operands: attributes that the program was compiled for.
#pragma once

#include "xla/handler.h"

namespace fusednn::handlers {

// Bits of BatchNormAttributes::given.
enum : int64_t { kGamma = 1, kBeta = 2, kRunning = 4 };

struct BatchNormAttributes {
  int64_t rank;  // of x without the axes of vmap
  int64_t channel_axis;
  double eps;
  double momentum;
  double negative_slope;
  int64_t unbiased_running_var;
  int64_t count;  // elements per channel, where they are those of several arrays
  int64_t given;  // which of the operands that may be absent are there

  bool has(int64_t operand) const { return (given & operand) != 0; }

  fnn_batch_norm_options options() const {
    return {sizeof(fnn_batch_norm_options),
            channel_axis,
            eps,
            momentum,
            negative_slope,
            static_cast<int32_t>(unbiased_running_var)};
  }
};

}  // namespace fusednn::handlers

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(fusednn::handlers::BatchNormAttributes, StructMember<int64_t>("rank"),
                                      StructMember<int64_t>("channel_axis"), StructMember<double>("eps"),
                                      StructMember<double>("momentum"), StructMember<double>("negative_slope"),
                                      StructMember<int64_t>("unbiased_running_var"), StructMember<int64_t>("count"),
                                      StructMember<int64_t>("given"));

// Handlers of functions that take BatchNormAttributes.
#define FNN_XLA_BATCH_NORM_HANDLERS(name) FNN_XLA_HANDLERS(name, name, .Attr<BatchNormAttributes>("options"))
