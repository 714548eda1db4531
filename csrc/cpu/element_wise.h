// Element-wise passes: out = f(grad, x) over a stretch of memory, vector by vector, in place or past the caches.
#pragma once

#include "cpu/cache_sizes.h"
#include "cpu/vectors.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Whether an output is too large to be found in cache by whoever reads it next. It can be streamed if its elements do not
// straddle cache lines.
template <class T>
FNN_INLINE bool worth_streaming(const void* out, int64_t elements) {
  const bool aligned = reinterpret_cast<uintptr_t>(out) % sizeof(T) == 0;
  return aligned && elements * static_cast<int64_t>(sizeof(T)) >= shared_cache() / 4 * 3;
}

// Non-temporal stores are weakly ordered: a task that streamed ends with this.
FNN_INLINE void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Asks for what a pass that ends at `end` reads 4 KiB after element i. By itself a machine has the fewer lines on their way
// the more is computed, or read of tables, between them.
template <class T>
FNN_INLINE void fetch_pair_ahead(const void* grad, const void* x, int64_t i, int64_t end) {
  constexpr int64_t kAhead = 4096 / static_cast<int64_t>(sizeof(T));
  const int64_t ahead = i + kAhead < end ? i + kAhead : i;
  __builtin_prefetch(element<T>(x, ahead));
  if (grad != x) __builtin_prefetch(element<T>(grad, ahead));
}

// For [begin, end): cursor.vector(i) computes elements [i, i + kPerVector) and cursor.scalar(i) one, asked for in order;
// cursor.vector_ahead(i) out of order, once and first. `out` may be what they read. Streamed: past the caches, and what is
// read is fetched where the cursor kFetches.
template <class T, class Cursor>
FNN_INLINE void put_elements(void* out, int64_t begin, int64_t end, bool streamed, Cursor cursor) {
  constexpr int64_t kStep = kPerVector<Compute<T>>;
  int64_t i = begin;
  if (streamed) {
    const int64_t aligned = begin + elements_to_line<T>(out, begin, end - begin);
    for (; i < aligned; ++i) store_scalar<T>(out, i, cursor.scalar(i));
    for (; i + kStep <= end; i += kStep) {
      if constexpr (Cursor::kFetches) fetch_pair_ahead<T>(cursor.grad, cursor.x, i, end);
      stream<T>(out, i, cursor.vector(i));
    }
  } else if (end - begin >= kStep) {
    // The last vector overlaps the one before it: it is computed before anything is written.
    const int64_t last = end - kStep;
    const auto v = cursor.vector_ahead(last);
    for (; i < last; i += kStep) store<T>(out, i, cursor.vector(i));
    store<T>(out, last, v);
    return;
  }
  for (; i < end; ++i) store_scalar<T>(out, i, cursor.scalar(i));
}

// The middle of put_elements past the caches, beside another loop: a call computes the next kElements of [at, end), which
// begin at a cache line's start.
template <class T, int kElements, class Cursor>
struct StreamedSteps {
  void* out;
  int64_t at, end;
  Cursor cursor;

  FNN_INLINE void operator()() {
    if (at + kElements > end) return;
#pragma GCC unroll 8
    for (int k = 0; k < kElements; k += kPerVector<Compute<T>>) stream<T>(out, at + k, cursor.vector(at + k));
    at += kElements;
  }
};

// out[i] = f(grad[i], x[i]) for [begin, end). Where f has no use for a gradient, pass x for it.
template <class T, class F, bool kAhead = false>
struct PairCursor {
  static constexpr bool kFetches = kAhead;
  const void* grad;
  const void* x;
  const F& f;
  FNN_INLINE Vector<Compute<T>> vector(int64_t i) const { return f(load<T>(grad, i), load<T>(x, i)); }
  FNN_INLINE Vector<Compute<T>> vector_ahead(int64_t i) const { return vector(i); }
  FNN_INLINE Compute<T> scalar(int64_t i) const { return f(load_scalar<T>(grad, i), load_scalar<T>(x, i)); }
};

template <class T, bool kAhead = false, class F>
FNN_INLINE void map_elements(const void* grad, const void* x, void* out, int64_t begin, int64_t end, bool streamed,
                             const F& f) {
  put_elements<T>(out, begin, end, streamed, PairCursor<T, F, kAhead>{grad, x, f});
}

}  // namespace FNN_UNIT
}  // namespace fusednn
