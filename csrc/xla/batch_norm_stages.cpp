// The stages of BatchNorm in XLA's programs, for statistics that are gathered between them.
//
// Operands and results in their order; those in brackets may be absent.
#include <vector>

#include "xla/batch_norm.h"

namespace fusednn::handlers {

namespace {

// x -> mean, m2
ffi::Error batch_norm_statistics(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                                 ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* mean = frame.result();
  const fnn_tensor* m2 = frame.result();
  const fnn_batch_norm_options options = given.options();
  int64_t count = 0;
  return frame.for_each([&] { return fnn_batch_norm_statistics(x, &options, mean, m2, &count); });
}

// The rows of a matrix as tensors of their own.
std::vector<fnn_tensor> rows_of(const fnn_tensor& matrix, size_t row_bytes) {
  std::vector<fnn_tensor> rows(static_cast<size_t>(matrix.shape[0]), matrix);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].data = static_cast<char*>(matrix.data) + i * row_bytes;
    rows[i].shape = matrix.shape + 1;
    rows[i].ndim = 1;
  }
  return rows;
}

// means (parts, channels), m2s (parts, channels) -> mean, m2; each part has given.count elements per channel.
ffi::Error batch_norm_merge(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                            ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* means = frame.operand();
  const fnn_tensor* m2s = frame.operand();
  const fnn_tensor* mean = frame.result();
  const fnn_tensor* m2 = frame.result();
  const size_t row_bytes = static_cast<size_t>(mean->shape[0]) * (mean->dtype == FNN_FLOAT64 ? 8 : 4);
  const std::vector<int64_t> counts(static_cast<size_t>(means->shape[0]), given.count);
  int64_t count = 0;
  return frame.for_each([&] {
    const auto mean_rows = rows_of(*means, row_bytes);
    const auto m2_rows = rows_of(*m2s, row_bytes);
    return fnn_merge_statistics(means->shape[0], mean_rows.data(), m2_rows.data(), counts.data(), mean, m2, &count);
  });
}

// x, mean, inv_std, [gamma], [beta] -> y
ffi::Error batch_norm_apply(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                            ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* mean = frame.operand();
  const fnn_tensor* inv_std = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* y = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each([&] { return fnn_batch_norm_apply(x, mean, inv_std, gamma, beta, &options, y); });
}

// grad, x, [gamma], [beta], mean, inv_std -> sum_grad, sum_grad_xhat
ffi::Error batch_norm_backward_reduce(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                                      ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* mean = frame.operand();
  const fnn_tensor* inv_std = frame.operand();
  const fnn_tensor* sum_grad = frame.result();
  const fnn_tensor* sum_grad_xhat = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each([&] {
    return fnn_batch_norm_backward_reduce(grad, x, gamma, beta, mean, inv_std, &options, sum_grad, sum_grad_xhat);
  });
}

// grad, x, [gamma], [beta], mean, inv_std, sum_grad, sum_grad_xhat -> grad_x; the sums are those of given.count elements.
ffi::Error batch_norm_backward_apply(Device device, const BatchNormAttributes& given, ffi::RemainingArgs operands,
                                     ffi::RemainingRets results) {
  Frame frame(device, given.rank, operands, results);
  const fnn_tensor* grad = frame.operand();
  const fnn_tensor* x = frame.operand();
  const fnn_tensor* gamma = frame.operand(given.has(kGamma));
  const fnn_tensor* beta = frame.operand(given.has(kBeta));
  const fnn_tensor* mean = frame.operand();
  const fnn_tensor* inv_std = frame.operand();
  const fnn_tensor* sum_grad = frame.operand();
  const fnn_tensor* sum_grad_xhat = frame.operand();
  const fnn_tensor* grad_x = frame.result();
  const fnn_batch_norm_options options = given.options();
  return frame.for_each([&] {
    return fnn_batch_norm_backward_apply(grad, x, gamma, beta, mean, inv_std, sum_grad, sum_grad_xhat, given.count,
                                         &options, grad_x);
  });
}

}  // namespace

FNN_XLA_HANDLERS(batch_norm_statistics);
FNN_XLA_HANDLERS(batch_norm_merge);
FNN_XLA_HANDLERS(batch_norm_apply);
FNN_XLA_HANDLERS(batch_norm_backward_reduce);
FNN_XLA_HANDLERS(batch_norm_backward_apply);

}  // namespace fusednn::handlers
