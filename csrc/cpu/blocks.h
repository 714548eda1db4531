// What every kernel needs of memory: an element's address, a scalar, the storage type by its number; and blocks: L1-sized
// runs of elements in the type of computation, for what takes more than one pass over them.
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
