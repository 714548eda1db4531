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
  constexpr int64_t kLeast = 1 << 15;
  constexpr int64_t kMost = 1 << 20;
  constexpr int64_t kLine = 64;  // elements, a whole number of cache lines
  const bool streamed = worth_streaming<T>(p.out, p.count) && p.out != p.x && p.out != p.grad;
  // In caches a stretch for each thread: then it mostly finds there what it read or wrote in the call before.
  const int64_t share = streamed ? 0 : (p.count / threads_of_call() / kLine + 1) * kLine;
  const int64_t size = share > kMost ? kMost : share > kLeast ? share : kLeast;
  parallel(p.count >= kWorthThreads, (p.count + size - 1) / size, [&](int64_t task) {
    const int64_t end = (task + 1) * size < p.count ? (task + 1) * size : p.count;
    // Fetching ahead gains a tenth of what is converted, and costs a twentieth of what is not.
    map_elements<T, sizeof(T) < sizeof(float)>(p.grad != nullptr ? p.grad : p.x, p.x, p.out, task * size, end, streamed,
                                               f);
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
