// Sums of squares of a list of arrays, and whether all their elements are finite, left on the device: one read of the
// arrays, one launch. They are the norms that gradients are clipped by, and fnn_global_norm.
//
//   sum_a = sum_i (factor * x_a[i])^2, squares in double
//
// An array is cut into leaves of kNormLeaf elements. A lane adds up its own elements in order, a block its lanes in a fixed
// tree; the last block to finish adds an array's leaves, lane l of a warp leaves l, l + 32, ... in order, then the lanes
// in a fixed tree, and arrays likewise. So the bits depend on the lengths of the arrays alone.
#pragma once

#include "cuda/optimizer_streams.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int kNormThreads = 256;
constexpr int kNormWarps = kNormThreads / kWarp;
constexpr int kNormBlocks = 4;  // of a multiprocessor
constexpr int64_t kNormLeaf = 16384;
static_assert(kNormLeaf % (kNormWarps * kUnit) == 0);

struct alignas(16) NormArray {
  DeviceStream stream;
  int64_t count;
  int64_t first_leaf;
};

struct NormArguments {
  const NormArray* arrays;
  int64_t array_count, leaf_count;
  double factor;
  const float* divisor;    // not null: the factor is 1 / *divisor
  const float* found_inf;  // not null and not zero: there is nothing to measure
  SquareSum* leaves;
  double* sums;        // of each array
  SquareSum* total;    // over all of them
  uint32_t* finished;  // zero before and after
};

// Over all lanes, in a fixed tree; every lane gets it.
FNN_DEVICE SquareSum sum_over_warp(SquareSum s) {
  s.squares = sum_over_lanes(1, kWarp, s.squares);
  s.nonfinite = __any_sync(kWholeWarp, s.nonfinite != 0) != 0 ? 1u : 0u;
  return s;
}

// Over a block; thread 0 gets it. `shared` has room for a number per warp.
FNN_DEVICE SquareSum sum_over_block(SquareSum s, SquareSum* shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  s = sum_over_warp(s);
  __syncthreads();  // whoever still reads the sums of before
  if (lane == 0) shared[warp] = s;
  __syncthreads();
  if (warp == 0) s = sum_over_warp(lane < kNormWarps ? shared[lane] : SquareSum{0.0, 0});
  return s;
}

// Elements times `factor`, as the update will see them: that product may overflow.
template <class C>
FNN_DEVICE void add_squares(const C (&elements)[kLaneElements], C factor, SquareSum& sum) {
#pragma unroll
  for (int e = 0; e < kLaneElements; ++e) {
    const C x = elements[e] * factor;
    const auto wide = static_cast<double>(x);
    sum.squares += wide * wide;
    // An infinity or a NaN times zero is NaN.
    sum.nonfinite |= x * C(0) == C(0) ? 0u : 1u;
  }
}

template <class C>
FNN_DEVICE SquareSum measure_lane(const NormArray& array, int64_t begin, C factor) {
  constexpr int kUnits = kNormLeaf / (kNormWarps * kUnit);
  constexpr int kAhead = 2;  // units under way at a time
  SquareSum sum{0.0, 0};
  const int64_t first = begin + static_cast<int>(threadIdx.x / kWarp) * kUnit;
#pragma unroll 1
  for (int u = 0; u < kUnits; u += kAhead) {
    Raw<C> raw[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const LanePlace at(first + (u + k) * kNormWarps * kUnit, array.count);
      load_stream<Codes::kNone>(array.stream, at, raw[k]);
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      C elements[kLaneElements];
      widen_stream<Codes::kNone>(array.stream, raw[k], 0.0f, elements);
      add_squares(elements, factor, sum);
    }
  }
  return sum;
}

// What the last block does: leaves to arrays, arrays to the total.
FNN_DEVICE void merge_leaves(const NormArguments& a, SquareSum* shared) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int64_t i = warp; i < a.array_count; i += kNormWarps) {
    const int64_t end = i + 1 < a.array_count ? a.arrays[i + 1].first_leaf : a.leaf_count;
    SquareSum sum{0.0, 0};
    for (int64_t leaf = a.arrays[i].first_leaf + lane; leaf < end; leaf += kWarp) sum.squares += a.leaves[leaf].squares;
    sum = sum_over_warp(sum);
    if (lane == 0) a.sums[i] = sum.squares;
  }
  __syncthreads();
  SquareSum total{0.0, 0};
  for (int64_t i = threadIdx.x; i < a.array_count; i += kNormThreads) total.squares += a.sums[i];
  for (int64_t leaf = threadIdx.x; leaf < a.leaf_count; leaf += kNormThreads)
    total.nonfinite |= a.leaves[leaf].nonfinite;
  total = sum_over_block(total, shared);
  if (threadIdx.x == 0) *a.total = total;
}

FNN_KERNEL(kNormThreads, kNormBlocks) measure_arrays(const __grid_constant__ NormArguments a) {
  if (a.found_inf != nullptr && *a.found_inf != 0.0f) return;
  struct Shared {
    SquareSum sums[kNormWarps];
    uint32_t is_last;
  };
  Shared& shared = *reinterpret_cast<Shared*>(shared_memory());
  const double factor = a.divisor != nullptr ? 1.0 / static_cast<double>(*a.divisor) : a.factor;
  for (int64_t leaf = blockIdx.x; leaf < a.leaf_count; leaf += gridDim.x) {
    const auto first = [](const NormArray& array) { return array.first_leaf; };
    const NormArray& array = a.arrays[find_record(a.arrays, a.array_count, leaf, first)];
    const int64_t begin = (leaf - array.first_leaf) * kNormLeaf;
    SquareSum sum = array.stream.storage == Storage::kFloat64
                        ? measure_lane<double>(array, begin, factor)
                        : measure_lane<float>(array, begin, static_cast<float>(factor));
    sum = sum_over_block(sum, shared.sums);
    if (threadIdx.x == 0) a.leaves[leaf] = sum;
  }
  if (threadIdx.x == 0) {
    shared.is_last = add_acquire_release(a.finished, 1) == gridDim.x - 1 ? 1u : 0u;
    if (shared.is_last != 0) *a.finished = 0;
  }
  __syncthreads();
  if (shared.is_last != 0) merge_leaves(a, shared.sums);
}

constexpr size_t kNormShared = sizeof(SquareSum) * kNormWarps + 16;

}  // namespace FNN_UNIT
}  // namespace fusednn
