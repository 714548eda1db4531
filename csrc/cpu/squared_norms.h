// Sums of squares of a list of arrays, and whether all their elements are finite: each array is read once.
#pragma once

#include "core/problem.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Sums of squares in leaves of fixed size, added in index order, and whether all elements are finite.
constexpr int64_t kNormLeaf = 4096;

struct NormLeaf {
  int64_t array, begin;
  double sum;
  bool finite;
};

// A float in memory that is computed in double.
struct WidenedFloat {
  float value;
};
template <>
struct ComputeOf<WidenedFloat> {
  using type = double;
};
FNN_INLINE double widen(WidenedFloat x) { return static_cast<double>(x.value); }
template <>
struct Packed<WidenedFloat> {
  typedef float type __attribute__((vector_size(kVectorBytes / 2)));
  static FNN_INLINE Vector<double> to(type v) { return __builtin_convertvector(v, Vector<double>); }
};

// Squares of floats are taken in double, where they cannot overflow: their sum is finite if all elements are.
FNN_INLINE TwoSums square_sums(float /*type*/, const void* block, int64_t n) {
  LaneSums<WidenedFloat> sums;
  sums.add_run(block, block, n, [](auto e, auto, auto& squares, auto&) { squares += e * e; });
  const TwoSums total = sums.total();
  return {total.first, total.first * 0.0};
}

// Those of doubles can. An infinity or a NaN times zero is NaN, anything else zero.
FNN_INLINE TwoSums square_sums(double /*type*/, const void* block, int64_t n) {
  LaneSums<double> sums;
  sums.add_run(block, block, n, [](auto e, auto, auto& squares, auto& zero) {
    squares += e * e;
    zero += e * decltype(e){};
  });
  return sums.total();
}

// n elements at base[index], widened, times `factor`. The last vector may overlap the one before it.
template <class T, class C>
FNN_INLINE void widen_block(const void* base, int64_t index, int64_t n, C factor, C* to) {
  if (n < kPerVector<C>) {
    for (int64_t i = 0; i < n; ++i) to[i] = load_scalar<T>(base, index + i) * factor;
    return;
  }
  const int64_t last = n - kPerVector<C>;
  for (int64_t i = 0; i < last; i += kPerVector<C>) store<C>(to, i, load<T>(base, index + i) * factor);
  store<C>(to, last, load<T>(base, index + last) * factor);
}

// Of the elements times `factor`, as the update will see them: that product may overflow.
template <class T>
FNN_ONE_COPY void measure(const Stream& stream, int64_t end, double factor, NormLeaf& leaf) {
  using C = Compute<T>;
  TwoSums total{0.0, 0.0};
  Buffer<C> buffer;
  for (int64_t i = leaf.begin; i < end; i += kBlock) {
    const int64_t n = end - i < kBlock ? end - i : kBlock;
    const void* block = element<T>(stream.data, i);
    if (sizeof(T) != sizeof(C) || factor != 1.0) {
      widen_block<T>(stream.data, i, n, static_cast<C>(factor), buffer.data);
      block = buffer.data;
    }
    const TwoSums sums = square_sums(C{}, block, n);
    total.first += sums.first;
    total.second += sums.second;
  }
  leaf.sum = total.first;
  leaf.finite = total.second == 0.0;
}

enum class Measured { kFinite, kNonFinite, kNoWorkspace };

// array(i) is the i-th stream and its length.
template <class Array>
inline Measured squared_norms(int64_t arrays, const Array& array, double factor, double* sums) {
  int64_t leaves = 0;
  int64_t total = 0;
  for (int64_t a = 0; a < arrays; ++a) {
    leaves += (array(a).count + kNormLeaf - 1) / kNormLeaf;
    total += array(a).count;
  }
  auto* leaf = static_cast<NormLeaf*>(workspace(static_cast<size_t>(leaves + 1) * sizeof(NormLeaf)));
  if (leaf == nullptr) return Measured::kNoWorkspace;
  int64_t at = 0;
  for (int64_t a = 0; a < arrays; ++a) {
    for (int64_t begin = 0; begin < array(a).count; begin += kNormLeaf) leaf[at++] = {a, begin, 0.0, true};
  }
  constexpr int64_t kGroup = 8;
  parallel(total >= kWorthThreads, (leaves + kGroup - 1) / kGroup, [&](int64_t group) {
    for (int64_t l = group * kGroup; l < (group + 1) * kGroup && l < leaves; ++l) {
      const SquaredNorms::Array of = array(leaf[l].array);
      const int64_t end = leaf[l].begin + kNormLeaf < of.count ? leaf[l].begin + kNormLeaf : of.count;
      with_dtype(of.stream.dtype, [&](auto tag) { measure<decltype(tag)>(of.stream, end, factor, leaf[l]); });
    }
  });
  bool finite = true;
  for (int64_t a = 0; a < arrays; ++a) sums[a] = 0.0;
  for (int64_t l = 0; l < leaves; ++l) {
    sums[leaf[l].array] += leaf[l].sum;
    finite = finite && leaf[l].finite;
  }
  return finite ? Measured::kFinite : Measured::kNonFinite;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
