// Lanes: a fixed number of accumulators, whatever the machine's vector length, so that a sum is the same bits on every
// instruction set. Element i of a block goes to lane i % kLanes; lanes are added pairwise, in double.
#pragma once

#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class C>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};
template <class C>
using Vector = typename VectorOf<C>::type;

template <class C>
constexpr int kLanes = 64 / sizeof(C);

template <class C>
constexpr int kPerVector = kVectorBytes / sizeof(C);

template <class V, class C>
FNN_INLINE V load_vector(const C* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class C>
FNN_INLINE double sum_lanes(const C* lanes) {
  double d[kLanes<C>];
  for (int i = 0; i < kLanes<C>; ++i) d[i] = static_cast<double>(lanes[i]);
  for (int half = kLanes<C> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) d[i] += d[i + half];
  }
  return d[0];
}

struct TwoSums {
  double first, second;
};

// Over i: add(x[i], z[i], first, second) adds what element i contributes to each of two sums. `add` must accept
// scalars and vectors.
template <class C, class Add>
FNN_INLINE TwoSums two_sums(const C* x, const C* z, int64_t n, Add add) {
  using V = Vector<C>;
  constexpr int kCount = kLanes<C> / kPerVector<C>;
  V first[kCount] = {};
  V second[kCount] = {};
  int64_t i = 0;
  for (; i + kLanes<C> <= n; i += kLanes<C>) {
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) {
      const int64_t at = i + k * kPerVector<C>;
      add(load_vector<V>(x + at), load_vector<V>(z + at), first[k], second[k]);
    }
  }
  C first_lanes[kLanes<C>];
  C second_lanes[kLanes<C>];
  __builtin_memcpy(first_lanes, first, sizeof first);
  __builtin_memcpy(second_lanes, second, sizeof second);
  for (int lane = 0; i < n; ++i, ++lane) add(x[i], z[i], first_lanes[lane], second_lanes[lane]);
  return {sum_lanes(first_lanes), sum_lanes(second_lanes)};
}

}  // namespace FNN_UNIT
}  // namespace fusednn
