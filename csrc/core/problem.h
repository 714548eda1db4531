// Checked problems: what core/ hands to a device. Plain data, no functions, so that every instruction set's objects
// and the GPU's may include it. Pointers may be misaligned; nothing here overlaps except as noted.
#pragma once

#include <stdint.h>

namespace fusednn {

enum class DType : int32_t { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBFloat16 = 3 };

// y = f(x), or grad_x = f(grad, x), element by element. `out` may be `x` or `grad`.
struct LeakyRelu {
  DType dtype;
  int64_t count;
  double negative_slope;
  const void* grad;  // null in the forward pass
  const void* x;
  void* out;
};

// One BatchNorm call over (outer, channels, inner). Unused fields are null. Per-channel arrays are float, or double for
// kFloat64. `y` may be `x`; `grad_x` may be `grad`, `x` or `y_in`.
struct BatchNorm {
  DType dtype;
  int64_t outer, channels, inner;
  int64_t row_stride;  // channels * inner; more where these are some channels of longer rows (cpu/strips.h)
  double eps, momentum, negative_slope;
  bool unbiased_running_var;

  const void* x;
  const void* y_in;  // backward from the output
  const void* grad;
  const void* gamma;
  const void* beta;
  void* mean;  // written by forward and statistics, read by the others
  void* inv_std;
  void* m2;  // written by statistics
  void* running_mean;
  void* running_var;

  void* y;
  void* grad_x;
  void* sum_grad;       // grad_beta; read by backward_apply
  void* sum_grad_xhat;  // grad_gamma; read by backward_apply
  double count;         // elements per channel over all parts, for backward_apply
};

// Statistics of several arrays into one; per-channel arrays are float, or double for kFloat64.
struct MergedStatistics {
  DType dtype;
  int64_t channels, parts;
  const void* const* means;
  const void* const* m2s;
  const int64_t* counts;
  void* mean;
  void* m2;
};

constexpr int kMaxStates = 4;
constexpr int kMaxHyperparameters = 8;

// A stream of elements that an optimizer reads or writes; data == null: absent.
struct Stream {
  void* data;
  DType dtype;
};

struct OptimizerTensor {
  int64_t count;
  int64_t step;
  Stream param, grad, ema, low_precision_copy;
  Stream states[kMaxStates];
  // Not null: the state's data are 8-bit codes (math/quantize.h), and these the scales, float32.
  void* state_scales[kMaxStates];
};

// One optimizer call over a list of tensors. Params are all float64 (computed in double) or none is.
struct OptimizerStep {
  int32_t kind;
  int32_t convention;
  bool in_double;
  double hyperparameters[kMaxHyperparameters];
  double weight_decay;
  bool decoupled_weight_decay, maximize, skip_nonfinite;
  double grad_scale, clip_value, max_norm_each, max_norm, ema_momentum;
  // Whether bfloat16 params, states and averages are rounded at random. 8-bit codes always are; the seed is theirs too.
  bool stochastic_rounding;
  uint64_t stochastic_rounding_seed;
  int64_t tensor_count;
  int64_t total;  // elements over all tensors
  const OptimizerTensor* tensors;
  double* norms;  // room for tensor_count numbers
};

// The sum of squares of each of a list of arrays.
struct SquaredNorms {
  struct Array {
    Stream stream;
    int64_t count;
  };
  int64_t array_count;
  const Array* arrays;
  double* sums;  // array_count numbers
};

// A pass over memory that computes next to nothing (cpu/streams.h). Arrays of `count` floats, a multiple of
// kStreamFloats, aligned to cache lines.
constexpr int kMaxStreamsRead = 2;
constexpr int kMaxStreamsUpdated = 4;
constexpr int64_t kStreamFloats = 64;

struct StreamPass {
  int64_t count;
  int32_t input_count, updated_count;
  const float* inputs[kMaxStreamsRead];
  float* updated[kMaxStreamsUpdated];
  float* output;  // may be null
  bool non_temporal;
};

}  // namespace fusednn
