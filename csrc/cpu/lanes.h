// Lanes: a fixed number of accumulators, whatever the machine's vector length, so that a sum is the same bits on every
// instruction set. Element i of a run goes to lane i % kLanes; lanes are added pairwise, in double.
#pragma once

#include "cpu/vectors.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Two of the longest vectors: additions wait for one another, and one chain of them is slower than the L1 cache.
template <class C>
constexpr int kLanes = 128 / sizeof(C);

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

// For a run that nothing is done beside.
struct NothingBeside {
  FNN_INLINE void operator()(const void* /*x*/, const void* /*z*/) const {}
};

// Two sums over runs of elements of storage type T.
template <class T>
class LaneSums {
 public:
  using C = Compute<T>;
  using V = Vector<C>;

  // Over i < n: add(x[i], z[i], first, second) adds what element i contributes to each sum, scalars or vectors.
  // beside(address in x, address in z): before each kLanes elements.
  template <class Add, class Beside>
  FNN_INLINE void add_run(const void* x, const void* z, int64_t n, const Add& add, Beside& beside) {
    int64_t i = 0;
    for (; i + kLanes<C> <= n; i += kLanes<C>) {
      beside(element<T>(x, i), element<T>(z, i));
#pragma GCC unroll 8
      for (int k = 0; k < kCount; ++k) add_vector(x, z, i, k, add);
    }
    // The rest: what whole vectors of the longest kind can take, then single elements.
    if (i + kLanes<C> / 2 <= n) {
#pragma GCC unroll 4
      for (int k = 0; k < kCount / 2; ++k) add_vector(x, z, i, k, add);
      i += kLanes<C> / 2;
    }
    for (int lane = 0; i < n; ++i, ++lane) {
      add(load_scalar<T>(x, i), load_scalar<T>(z, i), first_rest_[lane], second_rest_[lane]);
    }
  }

  template <class Add>
  FNN_INLINE void add_run(const void* x, const void* z, int64_t n, const Add& add) {
    NothingBeside nothing;
    add_run(x, z, n, add, nothing);
  }

  // Of copies, so that the sums themselves can stay in registers.
  FNN_INLINE TwoSums total() const {
    const LaneSums copy = *this;
    return {sum(copy.first_, copy.first_rest_), sum(copy.second_, copy.second_rest_)};
  }

 private:
  static constexpr int kCount = kLanes<C> / kPerVector<C>;
  static constexpr int kRest = kLanes<C> / 2;

  template <class Add>
  FNN_INLINE void add_vector(const void* x, const void* z, int64_t i, int k, const Add& add) {
    const int64_t at = i + k * kPerVector<C>;
    add(load<T>(x, at), load<T>(z, at), first_[k], second_[k]);
  }

  static FNN_ONE_COPY double sum(const V* vectors, const C* rest) {
    C lanes[kLanes<C>];
    __builtin_memcpy(lanes, vectors, sizeof lanes);
    for (int i = 0; i < kRest; ++i) lanes[i] += rest[i];
    return sum_lanes(lanes);
  }

  V first_[kCount] = {};
  V second_[kCount] = {};
  C first_rest_[kRest] = {};
  C second_rest_[kRest] = {};
};

}  // namespace FNN_UNIT
}  // namespace fusednn
