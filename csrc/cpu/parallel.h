// From a lambda to the thread pool's plain function pointer.
#pragma once

#include "cpu/thread_pool.h"
#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Waking a sleeping thread takes about as long as streaming this many elements: below, one thread is faster.
constexpr int64_t kWorthThreads = 1 << 17;

template <class F>
FNN_ONE_COPY void call_task(const void* f, int64_t index) {
  (*static_cast<const F*>(f))(index);
}

// f(0) ... f(count - 1), on the pool if the whole of it is worth that.
template <class F>
inline void parallel(bool worth, int64_t count, const F& f) {
  if (worth) return run_parallel(count, &call_task<F>, &f);
  for (int64_t i = 0; i < count; ++i) call_task<F>(&f, i);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
