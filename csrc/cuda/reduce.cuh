// Sums over a warp, in an order that is always the same, and the barrier of a group of blocks.
#pragma once

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr uint32_t kWholeWarp = 0xffffffffu;
constexpr int kWarp = 32;

// Over the lanes whose numbers differ in bits below `end` and not below `begin`, powers of two; every lane gets the sum. As
// a + b is b + a, the lanes agree in every bit.
template <class C>
FNN_DEVICE C sum_over_lanes(int begin, int end, C value) {
#pragma unroll
  for (int distance = begin; distance < end; distance *= 2) value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

// The same of several numbers, over the first `lanes` lanes and each group like them. Small and not fast: where the compiler
// cannot tell that a warp's threads are together, a shuffle is much code.
template <int kCount, class C>
FNN_DEVICE void add_over_lanes(int lanes, C (&values)[kCount]) {
#pragma unroll 1
  for (int distance = 1; distance < lanes; distance *= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += __shfl_xor_sync(kWholeWarp, values[i], distance);
  }
}

// Waits until all `blocks` blocks of a group have come here `round` times. All are resident (a cooperative launch), and
// *counter was zero before the launch. What a block wrote before, all of them can read afterwards.
FNN_DEVICE void group_barrier(uint32_t* counter, uint32_t blocks, uint32_t round) {
  __syncthreads();
  if (threadIdx.x == 0) {
    add_acquire_release(counter, 1);
    const uint32_t wanted = blocks * round;
    // Signed distance: the counter may wrap around.
    while (static_cast<int32_t>(load_acquire(counter) - wanted) < 0) spin_pause();
  }
  __syncthreads();
}

}  // namespace FNN_UNIT
}  // namespace fusednn
