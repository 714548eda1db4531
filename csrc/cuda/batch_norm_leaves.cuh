// What a block does with a leaf that it holds in registers: sums, moments, maps. The geometry (batch_norm_runs.cuh,
// batch_norm_columns.cuh) says which channel an element belongs to and how the sums of threads come together.
//
// Within a leaf numbers are summed in the type of computation, in the order of a fixed tree: a thread's own, a warp's by
// shuffles, then the warps'. Leaves are added up in double, in order.
#pragma once

#include "cuda/batch_norm_channels.cuh"
#include "cuda/reduce.cuh"
#include "cuda/vectors.cuh"
#include "math/batch_norm.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// Windows that a thread holds in registers, over all arrays: 32 KiB a block.
constexpr int kWindowsPerThread = 8;
constexpr int64_t kLeafBytes = 16 * kWindowsPerThread * kThreads;

// A block's shared memory, but for the leaves it keeps there.
template <class Geometry>
struct LeafMemory {
  using C = Compute<typename Geometry::Storage>;
  static constexpr int kColumns = Geometry::kColumns;
  C pivot_sums[kWarps][kColumns];
  C pivots[kColumns];
  C sums[2][kWarps][kColumns];
  Channel<C> tables[kColumns];
};

template <class Geometry>
using WindowsOf = Bytes16[Geometry::kItems];

// The tables of this thread's group of elements.
template <class Geometry, class C, int kCount>
FNN_DEVICE void own_channels(const LeafMemory<Geometry>& shared, int group, Channel<C> (&channels)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) channels[k] = shared.tables[Geometry::own_place(group * kCount + k)];
}

// The deviations from the pivots and their squares. What is not chosen does not deviate.
template <bool kAllChosen, class Geometry, class C, int kPer>
FNN_DEVICE void add_deviations(const WindowsOf<Geometry>& x, Chosen all, const C (&pivots)[kPer], C (&sums)[kPer],
                               C (&squares)[kPer]) {
  using T = typename Geometry::Storage;
  constexpr int kEach = kTogether<T>;
  // Groups first: the sums of one at a time are in registers.
#pragma unroll
  for (int group = 0; group < kGroups<T>; ++group) {
#pragma unroll
    for (int i = 0; i < Geometry::kItems; ++i) {
      const uint32_t chosen = kAllChosen ? kAllElements<T> : chosen_of<T>(all, i);
      C e[kEach];
      unpack<T>(x[i], group, e);
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        const int j = group * kEach + k;
        const C d = kAllChosen || (chosen >> j & 1u) ? e[k] - pivots[j] : C(0);
        sums[j] += d;
        squares[j] += d * d;
      }
    }
  }
}

// Adds a leaf's moments to those of its column, in threads below kColumns. Two passes over registers, the second about
// the leaf's mean: one would lose what the mean is larger than the standard deviation, as would means of threads that
// are merged by Chan's formula in float.
template <class Geometry>
FNN_DEVICE void add_leaf_moments(const Geometry& geometry, int64_t strip, const typename Geometry::Leaf& leaf,
                                 const WindowsOf<Geometry>& x, Chosen chosen, LeafMemory<Geometry>& shared,
                                 Moments& total) {
  using T = typename Geometry::Storage;
  using C = Compute<T>;
  constexpr int kPer = kPerVector<T>;
  constexpr int kEach = kTogether<T>;
  const int warp = threadIdx.x / kWarp;
  const int column = threadIdx.x;
  const bool owner = column < Geometry::kColumns;

  C sums[kPer] = {};
#pragma unroll
  for (int i = 0; i < Geometry::kItems; ++i) {
#pragma unroll
    for (int group = 0; group < kGroups<T>; ++group) {
      C e[kEach];
      unpack<T>(x[i], group, e);
#pragma unroll
      for (int k = 0; k < kEach; ++k) sums[group * kEach + k] += e[k];
    }
  }
  Geometry::put_sums(sums, shared.pivot_sums[warp]);
  __syncthreads();
  const int64_t count = owner ? geometry.count(leaf, strip, column) : 0;
  const int place = Geometry::place(column);
  if (owner) {
    C sum(0);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += shared.pivot_sums[w][place];
    shared.pivots[place] = count > 0 ? sum / C(count) : C(0);
  }
  __syncthreads();

  C pivots[kPer];
  C squares[kPer] = {};
#pragma unroll
  for (int j = 0; j < kPer; ++j) {
    pivots[j] = shared.pivots[Geometry::own_place(j)];
    sums[j] = C(0);
  }
  // Short types are bound by instructions.
  if (sizeof(T) == 2 && leaf.all_chosen) {
    add_deviations<true, Geometry>(x, chosen, pivots, sums, squares);
  } else {
    add_deviations<false, Geometry>(x, chosen, pivots, sums, squares);
  }
  Geometry::put_sums(sums, shared.sums[0][warp]);
  Geometry::put_sums(squares, shared.sums[1][warp]);
  __syncthreads();
  if (owner) {
    double deviations = 0.0;
    double of_squares = 0.0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      deviations += static_cast<double>(shared.sums[0][w][place]);
      of_squares += static_cast<double>(shared.sums[1][w][place]);
    }
    const auto pivot = static_cast<double>(shared.pivots[place]);
    total = merge(total, moments_about(pivot, deviations, of_squares, static_cast<double>(count)));
  }
}

// A thread's sums of g and of g * centred over a leaf, one of each for every element of a window. A gradient that is not
// chosen is zero.
template <class Geometry>
struct ThreadSums {
  using T = typename Geometry::Storage;
  using C = Compute<T>;
  C first[kPerVector<T>];
  C second[kPerVector<T>];

  template <class Recover>
  FNN_DEVICE void add(const WindowsOf<Geometry>& grad, const WindowsOf<Geometry>& x, const Recover& recover,
                      const LeafMemory<Geometry>& shared) {
    constexpr int kEach = kTogether<T>;
#pragma unroll
    for (int group = 0; group < kGroups<T>; ++group) {
      Channel<C> channels[kEach];
      own_channels(shared, group, channels);
#pragma unroll
      for (int i = 0; i < Geometry::kItems; ++i) {
        C g[kEach];
        C e[kEach];
        unpack<T>(grad[i], group, g);
        unpack<T>(x[i], group, e);
#pragma unroll
        for (int k = 0; k < kEach; ++k) {
          const auto r = recover(g[k], e[k], channels[k]);
          first[group * kEach + k] += r.grad;
          second[group * kEach + k] += r.grad * r.centred;
        }
      }
    }
  }
};

// Adds the threads' sums to those of their columns, in threads below kColumns.
template <class Geometry>
FNN_DEVICE void add_leaf_sums(const ThreadSums<Geometry>& sums, LeafMemory<Geometry>& shared, TwoSums& total) {
  const int warp = threadIdx.x / kWarp;
  __syncthreads();  // the last leaf's sums have been read
  Geometry::put_sums(sums.first, shared.sums[0][warp]);
  Geometry::put_sums(sums.second, shared.sums[1][warp]);
  __syncthreads();
  if (threadIdx.x < Geometry::kColumns) {
    const int place = Geometry::place(static_cast<int>(threadIdx.x));
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      total.first += static_cast<double>(shared.sums[0][w][place]);
      total.second += static_cast<double>(shared.sums[1][w][place]);
    }
  }
}

// x = formula(grad, x, channel).
template <class Geometry, class F>
FNN_DEVICE void map_leaf(const WindowsOf<Geometry>& grad, WindowsOf<Geometry>& x, const F& formula,
                         const LeafMemory<Geometry>& shared) {
  using T = typename Geometry::Storage;
  using C = Compute<T>;
  constexpr int kEach = kTogether<T>;
#pragma unroll
  for (int group = 0; group < kGroups<T>; ++group) {
    Channel<C> channels[kEach];
    own_channels(shared, group, channels);
#pragma unroll
    for (int i = 0; i < Geometry::kItems; ++i) {
      C g[kEach];
      C e[kEach];
      unpack<T>(grad[i], group, g);
      unpack<T>(x[i], group, e);
#pragma unroll
      for (int k = 0; k < kEach; ++k) e[k] = formula(g[k], e[k], channels[k]);
      pack<T>(x[i], group, e);
    }
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
