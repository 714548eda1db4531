// Blocks: L1-sized runs of elements in the type of computation. Kernels see only blocks, so that storage types,
// misaligned memory and non-temporal stores are handled here once.
#pragma once

#include "core/problem.h"
#include "math/scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fusednn {
inline namespace FNN_UNIT {

// Elements of a block: small enough for a few blocks of doubles to share a 32 KiB L1 cache.
constexpr int64_t kBlock = 1024;

// A block's elements. Aligned to what the caches and vectors like best.
template <class C>
struct alignas(64) Buffer {
  C data[kBlock];
};

template <class T>
FNN_INLINE const char* element(const void* base, int64_t index) {
  return static_cast<const char*>(base) + index * static_cast<int64_t>(sizeof(T));
}
template <class T>
FNN_INLINE char* element(void* base, int64_t index) {
  return static_cast<char*>(base) + index * static_cast<int64_t>(sizeof(T));
}

// Whether memory at p can be used as an array of C as it stands.
template <class T, class C>
FNN_INLINE bool direct(const void* p) {
  return sizeof(T) == sizeof(C) && reinterpret_cast<uintptr_t>(p) % alignof(C) == 0;
}

// n elements at base[index], converted into `to`.
template <class T, class C>
FNN_INLINE void convert_in(const void* base, int64_t index, int64_t n, C* __restrict to) {
  const char* from = element<T>(base, index);
  for (int64_t i = 0; i < n; ++i) {
    T value;
    __builtin_memcpy(&value, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    to[i] = widen(value);
  }
}

template <class T, class C>
FNN_INLINE void convert_out(const C* __restrict from, int64_t n, void* base, int64_t index) {
  char* to = element<T>(base, index);
  for (int64_t i = 0; i < n; ++i) {
    const T value = narrow<T>(from[i]);
    __builtin_memcpy(to + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
}

// n <= kBlock elements at base[index] as an array of C: the memory itself where it can be, else a converted copy.
template <class T, class C>
FNN_INLINE const C* load(const void* base, int64_t index, int64_t n, Buffer<C>& buffer) {
  const char* p = element<T>(base, index);
  if (direct<T, C>(p)) return reinterpret_cast<const C*>(p);
  convert_in<T>(base, index, n, buffer.data);
  return buffer.data;
}

// One scalar of a per-channel array, which may be misaligned.
template <class C>
FNN_INLINE C scalar_at(const void* base, int64_t index) {
  C value;
  __builtin_memcpy(&value, element<C>(base, index), sizeof value);
  return value;
}

template <class C>
FNN_INLINE C scalar_or(const void* base, int64_t index, C otherwise) {
  return base == nullptr ? otherwise : scalar_at<C>(base, index);
}

template <class C>
FNN_INLINE void put_scalar(void* base, int64_t index, C value) {
  __builtin_memcpy(element<C>(base, index), &value, sizeof value);
}

// Copies past the caches: the destination is written without being read first.
FNN_INLINE void stream_copy(void* to, const void* from, int64_t bytes) {
#if defined(__x86_64__)
  char* t = static_cast<char*>(to);
  const char* f = static_cast<const char*>(from);
  const int64_t head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(t) & 63);
  if (head >= bytes) {
    __builtin_memcpy(t, f, static_cast<size_t>(bytes));
    return;
  }
  __builtin_memcpy(t, f, static_cast<size_t>(head));
  int64_t i = head;
  for (; i + 64 <= bytes; i += 64) {
#pragma GCC unroll 4
    for (int k = 0; k < 64; k += 16) {
      const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(f + i + k));
      _mm_stream_si128(reinterpret_cast<__m128i*>(t + i + k), part);
    }
  }
  __builtin_memcpy(t + i, f + i, static_cast<size_t>(bytes - i));
#else
  __builtin_memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

// Non-temporal stores are weakly ordered: a task that streamed ends with this.
FNN_INLINE void end_streaming() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Where to compute a block that belongs at base[index]: in place, or in `buffer` if it must be converted or streamed.
template <class T, class C>
FNN_INLINE C* begin_store(void* base, int64_t index, bool streamed, Buffer<C>& buffer) {
  char* p = element<T>(base, index);
  return !streamed && direct<T, C>(p) ? reinterpret_cast<C*>(p) : buffer.data;
}

template <class T, class C>
FNN_INLINE void end_store(const C* block, int64_t n, void* base, int64_t index, bool streamed) {
  char* p = element<T>(base, index);
  if (reinterpret_cast<const char*>(block) == p) return;
  if (!streamed) {
    convert_out<T>(block, n, base, index);
  } else if (sizeof(T) == sizeof(C)) {
    stream_copy(p, block, n * static_cast<int64_t>(sizeof(T)));
  } else {
    alignas(64) T narrowed[kBlock];
    for (int64_t i = 0; i < n; ++i) narrowed[i] = narrow<T>(block[i]);
    stream_copy(p, narrowed, n * static_cast<int64_t>(sizeof(T)));
  }
}

// Calls f with a value of the storage type.
template <class F>
FNN_INLINE auto with_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::kFloat64:  return f(double{});
    case DType::kFloat16:  return f(Float16{});
    case DType::kBFloat16: return f(BFloat16{});
    case DType::kFloat32:  break;
  }
  return f(float{});
}

}  // namespace FNN_UNIT
}  // namespace fusednn
