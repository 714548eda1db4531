// leaky_relu and its backward pass, element by element. 1R + 1W, backward 2R + 1W.
#pragma once

#include "core/problem.h"
#include "cpu/element_wise.h"
#include "cpu/parallel.h"
#include "math/activation.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T, class F>
inline void map_in_tasks(const LeakyRelu& p, const F& f) {
  constexpr int64_t kTask = 1 << 15;
  const bool streamed = worth_streaming<T>(p.out, p.count) && p.out != p.x && p.out != p.grad;
  parallel(p.count >= kWorthThreads, (p.count + kTask - 1) / kTask, [&](int64_t task) {
    const int64_t end = (task + 1) * kTask < p.count ? (task + 1) * kTask : p.count;
    map_elements<T>(p.grad != nullptr ? p.grad : p.x, p.x, p.out, task * kTask, end, streamed, f);
    if (streamed) end_streaming();
  });
}

template <class T>
bool leaky_relu_of(const LeakyRelu& p) {
  const auto slope = Compute<T>(p.negative_slope);
  if (p.grad == nullptr) {
    map_in_tasks<T>(p, [slope](auto, auto x) { return leaky_relu(x, slope); });
  } else {
    map_in_tasks<T>(p, [slope](auto grad, auto x) { return leaky_relu_grad(grad, x, slope); });
  }
  return true;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
