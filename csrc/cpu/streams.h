// Streams: passes over memory that compute next to nothing, the roof under which kernels are measured. A pass adds up
// the arrays that are read and those that are updated in place, element by element, and writes the sum to the output
// and, halved, to the updated arrays. Over arrays of n floats it moves (inputs + 2 updated + output) n floats, and one
// more for an output that is written through the caches, whose lines are read first.
#pragma once

#include "cpu/element_wise.h"
#include "cpu/parallel.h"

namespace fusednn {
inline namespace FNN_UNIT {

typedef float StreamLine __attribute__((vector_size(64)));
constexpr int64_t kLineFloats = 16;

// Floats of a task: long runs are what memory likes best, short ones let several threads share what is in caches.
FNN_INLINE int64_t stream_task_floats(int64_t count) {
  constexpr int64_t kLeast = 16 * kStreamFloats * kLineFloats;
  constexpr int64_t kTasks = 32;
  const int64_t share = (count / kTasks + kStreamFloats - 1) / kStreamFloats * kStreamFloats;
  return share > kLeast ? share : kLeast;
}

FNN_INLINE void store_past_caches(float* to, StreamLine value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, reinterpret_cast<__m512>(value));
#elif defined(__x86_64__)
  __m128 parts[4];
  __builtin_memcpy(parts, &value, sizeof parts);
  for (int k = 0; k < 4; ++k) _mm_stream_ps(to + 4 * k, parts[k]);
#else
  __builtin_memcpy(to, &value, sizeof value);
#endif
}

enum class Store { kNone, kCached, kPastCaches };

template <int kInputs, int kUpdated, Store kStore>
void stream_task(const StreamPass& p, int64_t begin, int64_t end) {
  constexpr int kUnrolled = kStreamFloats / kLineFloats;
  StreamLine seen[kUnrolled] = {};
  for (int64_t i = begin; i < end; i += kStreamFloats) {
    for (int k = 0; k < kUnrolled; ++k) {
      const int64_t at = i + k * kLineFloats;
      StreamLine sum = {};
      StreamLine value;
#pragma GCC unroll 2
      for (int a = 0; a < kInputs; ++a) {
        __builtin_memcpy(&value, p.inputs[a] + at, sizeof value);
        sum += value;
      }
#pragma GCC unroll 4
      for (int a = 0; a < kUpdated; ++a) {
        __builtin_memcpy(&value, p.updated[a] + at, sizeof value);
        sum += value;
        value = sum * 0.5F;
        __builtin_memcpy(p.updated[a] + at, &value, sizeof value);
      }
      if constexpr (kStore == Store::kPastCaches) {
        store_past_caches(p.output + at, sum);
      } else if constexpr (kStore == Store::kCached) {
        __builtin_memcpy(p.output + at, &sum, sizeof sum);
      } else if constexpr (kUpdated == 0) {
        seen[k] += sum;
      }
    }
  }
  // What is only read must not be optimised away.
  asm volatile("" : : "r"(seen) : "memory");  // NOLINT(portability-no-assembler): it holds no instruction
  if constexpr (kStore == Store::kPastCaches) end_streaming();
}

template <int kInputs, int kUpdated, Store kStore = Store::kNone>
inline void stream_pass(const StreamPass& p) {
  const int64_t size = stream_task_floats(p.count);
  const bool worth = p.count * (p.input_count + p.updated_count) >= kWorthThreads;
  parallel(worth, (p.count + size - 1) / size, [&](int64_t task) {
    const int64_t begin = task * size;
    const int64_t end = p.count - begin < size ? p.count : begin + size;
    stream_task<kInputs, kUpdated, kStore>(p, begin, end);
  });
}

template <int kInputs, int kUpdated>
inline void stream_to_output(const StreamPass& p) {
  if (p.output == nullptr) return stream_pass<kInputs, kUpdated>(p);
  if (p.non_temporal) return stream_pass<kInputs, kUpdated, Store::kPastCaches>(p);
  return stream_pass<kInputs, kUpdated, Store::kCached>(p);
}

// core/ lets only these combinations through: what some kernel's traffic looks like.
inline void run_stream_pass(const StreamPass& p) {
  switch (p.updated_count) {
    case 0:  return p.input_count == 1 ? stream_to_output<1, 0>(p) : stream_to_output<2, 0>(p);
    case 1:  return p.input_count == 0 ? stream_pass<0, 1>(p) : stream_pass<1, 1>(p);
    case 2:  return stream_pass<1, 2>(p);
    case 3:  return stream_pass<1, 3>(p);
    default: return stream_pass<1, 4>(p);
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
