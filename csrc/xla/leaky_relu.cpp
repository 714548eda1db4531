// Leaky ReLU and its gradient in XLA's programs.
#include "xla/handler.h"

namespace fusednn::handlers {

namespace {

struct Slope {
  static constexpr size_t kNumbers = 1;
  explicit Slope(const double* n) : negative_slope(*n) {}
  double negative_slope;
};

ffi::Error leaky_relu(Device device, const Slope& given, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  Frame frame(device, kAnyRank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* y = frame.result();
  return frame.for_each([&] { return fnn_leaky_relu(x, given.negative_slope, y); });
}

ffi::Error leaky_relu_backward(Device device, const Slope& given, ffi::RemainingArgs operands,
                               ffi::RemainingRets results) {
  Frame frame(device, kAnyRank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* grad_x = frame.result();
  return frame.for_each([&] { return fnn_leaky_relu_backward(grad, x, given.negative_slope, grad_x); });
}

}  // namespace

FNN_XLA_HANDLERS(leaky_relu);
FNN_XLA_HANDLERS(leaky_relu_backward);

}  // namespace fusednn::handlers
