// BatchNorm with leaky ReLU in XLA's programs: training, inference, and their gradients.
//
// Operands and results in their order; those in brackets may be absent. running_* are operands and results at once.
#include "xla/batch_norm.h"

namespace fusednn::handlers {

namespace {

// x, [gamma], [beta], [running_mean, running_var] -> y, mean, inv_std, [running_mean, running_var]
ffi::Error batch_norm_forward(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                              ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* y = frame.result();
  const fnn_tensor* mean = frame.result();
  const fnn_tensor* inv_std = frame.result();
  const fnn_tensor* running_mean = frame.updated(given.has(kRunning));
  const fnn_tensor* running_var = frame.updated(given.has(kRunning));
  const fnn_batch_norm_options options = given.options();
  return frame.for_each(
      [&] { return fnn_batch_norm_forward(x, gamma, beta, running_mean, running_var, &options, y, mean, inv_std); });
}

// grad, x, [gamma], [beta], mean, inv_std -> grad_x, grad_gamma, grad_beta
ffi::Error batch_norm_backward(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                               ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* mean = frame.operand();
  const fnn_tensor* inv_std = frame.operand();
  const fnn_tensor* grad_x = frame.result();
  const fnn_tensor* grad_gamma = frame.result();
  const fnn_tensor* grad_beta = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each([&] {
    return fnn_batch_norm_backward(grad, x, gamma, beta, mean, inv_std, &options, grad_x, grad_gamma, grad_beta);
  });
}

// x, [gamma], [beta], running_mean, running_var -> y
ffi::Error batch_norm_inference(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                                ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* running_mean = frame.operand();
  const fnn_tensor* running_var = frame.operand();
  const fnn_tensor* y = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each(
      [&] { return fnn_batch_norm_inference(x, gamma, beta, running_mean, running_var, &options, y); });
}

// grad, x, [gamma], [beta], running_mean, running_var -> grad_x, grad_gamma, grad_beta
ffi::Error batch_norm_inference_backward(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                                         ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* running_mean = frame.operand();
  const fnn_tensor* running_var = frame.operand();
  const fnn_tensor* grad_x = frame.result();
  const fnn_tensor* grad_gamma = frame.result();
  const fnn_tensor* grad_beta = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each([&] {
    return fnn_batch_norm_inference_backward(grad, x, gamma, beta, running_mean, running_var, &options, grad_x,
                                             grad_gamma, grad_beta);
  });
}

}  // namespace

FNN_XLA_HANDLERS(batch_norm_forward);
FNN_XLA_HANDLERS(batch_norm_backward);
FNN_XLA_HANDLERS(batch_norm_inference);
FNN_XLA_HANDLERS(batch_norm_inference_backward);

}  // namespace fusednn::handlers
