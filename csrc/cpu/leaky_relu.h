// leaky_relu and its backward pass, element by element. 1R + 1W, backward 2R + 1W.
#pragma once

#include "cpu/batch_norm.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T>
bool leaky_relu_of(const LeakyRelu& p) {
  using C = Compute<T>;
  constexpr int64_t kTask = 32 * kBlock;
  const C slope = C(p.negative_slope);
  const bool past_cache =
      p.count * static_cast<int64_t>(sizeof(T)) >= kStreamedBytes && p.out != p.x && p.out != p.grad;
  parallel(p.count >= kWorthThreads, (p.count + kTask - 1) / kTask, [&](int64_t task) {
    Buffer<C> x_buffer;
    Buffer<C> grad_buffer;
    Buffer<C> out_buffer;
    const int64_t end = (task + 1) * kTask < p.count ? (task + 1) * kTask : p.count;
    for (int64_t i = task * kTask; i < end; i += kBlock) {
      const int64_t n = end - i < kBlock ? end - i : kBlock;
      const C* x = load<T>(p.x, i, n, x_buffer);
      C* o = begin_store<T>(p.out, i, past_cache, out_buffer);
      if (p.grad == nullptr) {
#pragma GCC ivdep
        for (int64_t k = 0; k < n; ++k) o[k] = leaky_relu(x[k], slope);
      } else {
        const C* g = load<T>(p.grad, i, n, grad_buffer);
#pragma GCC ivdep
        for (int64_t k = 0; k < n; ++k) o[k] = leaky_relu_grad(g[k], x[k], slope);
      }
      end_store<T>(o, n, p.out, i, past_cache);
    }
    if (past_cache) end_streaming();
  });
  return true;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
