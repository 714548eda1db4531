// Leaky ReLU and its gradient in XLA's programs.
#include "xla/handler.h"

namespace fusednn::handlers {

namespace {

ffi::Error leaky_relu(Device device, double negative_slope, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  Frame frame(device, kAnyRank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* y = frame.result();
  return frame.for_each([&] { return fnn_leaky_relu(x, negative_slope, y); });
}

ffi::Error leaky_relu_backward(Device device, double negative_slope, ffi::RemainingArgs operands,
                               ffi::RemainingRets results) {
  Frame frame(device, kAnyRank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* grad_x = frame.result();
  return frame.for_each([&] { return fnn_leaky_relu_backward(grad, x, negative_slope, grad_x); });
}

}  // namespace

FNN_XLA_HANDLERS(leaky_relu, leaky_relu, .Attr<double>("negative_slope"));
FNN_XLA_HANDLERS(leaky_relu_backward, leaky_relu_backward, .Attr<double>("negative_slope"));

}  // namespace fusednn::handlers
