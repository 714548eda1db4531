// What the handlers of BatchNorm are told besides their operands: attributes that the program was compiled for.
#pragma once

#include "xla/handler.h"

namespace fusednn::handlers {

// Bits of BatchNormAttributes::given.
enum : int64_t { kGamma = 1, kBeta = 2, kRunning = 4 };

struct BatchNormAttributes {
  static constexpr size_t kNumbers = 8;
  explicit BatchNormAttributes(const double* n)
      : rank(integer(n[0])),
        channel_axis(integer(n[1])),
        eps(n[2]),
        momentum(n[3]),
        negative_slope(n[4]),
        unbiased_running_var(integer(n[5])),
        count(integer(n[6])),
        given(integer(n[7])) {}

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
