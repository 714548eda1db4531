// BatchNorm's kernel, over either geometry. Memory moved, in arrays:
//
//   resident             forward 1R + 1W, backward 2R + 1W: a group of blocks holds all leaves of a unit (a channel; a strip
//                        of columns; all strips, where a channel has columns in several) in registers and shared memory
//   reduce, finish, map  forward 2R + 1W, backward 4R + 1W, the map in reverse order: what was read last is still in L2
//
// Both have the same leaves and the same parts, merged by the same functions: the same bits.
//
// One kernel for a storage type, a geometry and a direction: the ways over the leaves, and the formulas of the backward
// passes, are branches that all threads of a grid take alike, once for each leaf. Code for each would be three times as
// large, in a library that holds it for every architecture.
#pragma once

#include "cuda/batch_norm_channels.cuh"
#include "cuda/batch_norm_leaves.cuh"
#include "cuda/divisor.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

enum class Way : int32_t {
  kResident,
  kReduce,        // leaves to parts
  kReduceAndMap,  // each leaf is mapped while it is there, by a formula that does not wait for the sums
  kMap,           // from given statistics and sums
};

// One launch's arguments.
template <class Geometry>
struct Work {
  BatchNorm p;
  Geometry geometry;
  Parts parts;
  int64_t leaves_per_part;
  GradMeans means;
  Way way;
  // Task number part * across + i is strip i and one of its parts (if kMap, one of its leaves); resident: unit i.
  int64_t tasks;
  Divisor across;
  Divisor leaves;  // of a strip
  int64_t strips_per_task, leaves_per_task;
  uint32_t* counters;  // one for each group, zero before the launch
};

template <class Pass>
struct LeafWindows;

// A pass from x to y. A Pass says what a leaf is reduced to and what maps it afterwards.
template <class Geometry_>
struct ForwardPass {
  using Geometry = Geometry_;
  using C = Compute<typename Geometry::Storage>;
  using Total = Moments;
  static constexpr bool kReadsGrad = false;

  static FNN_INLINE const void* input(const BatchNorm& p) { return p.x; }
  static FNN_INLINE void* output(const BatchNorm& p) { return p.y; }

  static FNN_DEVICE void add(const Work<Geometry>& w, int64_t strip, const typename Geometry::Leaf& leaf,
                             LeafWindows<ForwardPass>& windows, LeafMemory<Geometry>& shared, Total& total) {
    add_leaf_moments(w.geometry, strip, leaf, windows.x(), windows.chosen, shared, total);
  }
  static FNN_DEVICE void map(const Work<Geometry>& w, LeafWindows<ForwardPass>& windows,
                             const LeafMemory<Geometry>& shared) {
    map_leaf<Geometry>(windows.grad(), windows.x(), Normalize<C>{C(w.p.negative_slope)}, shared);
  }
  static FNN_DEVICE void put(const Parts& parts, int64_t at, const Total& total) {
    parts.first[at] = total.mean;
    parts.second[at] = total.m2;
    parts.count[at] = total.count;
  }
};

// From grad and x, or from grad and y, to grad_x.
template <class Geometry_>
struct BackwardPass {
  using Geometry = Geometry_;
  using C = Compute<typename Geometry::Storage>;
  using Total = TwoSums;
  static constexpr bool kReadsGrad = true;

  static FNN_INLINE const void* input(const BatchNorm& p) { return p.y_in != nullptr ? p.y_in : p.x; }
  static FNN_INLINE void* output(const BatchNorm& p) { return p.grad_x; }

  static FNN_DEVICE void add(const Work<Geometry>& w, int64_t /*strip*/, const typename Geometry::Leaf& /*leaf*/,
                             LeafWindows<BackwardPass>& windows, LeafMemory<Geometry>& shared, Total& total) {
    const Slope<C> slope = slope_of<C>(w.p.negative_slope);
    ThreadSums<Geometry> sums{};
    if (w.p.y_in != nullptr) {
      sums.add(windows.grad(), windows.x(), Recover<C, FromOutput>{slope}, shared);
    } else {
      sums.add(windows.grad(), windows.x(), Recover<C, FromInput>{slope}, shared);
    }
    add_leaf_sums(sums, shared, total);
  }
  static FNN_DEVICE void map(const Work<Geometry>& w, LeafWindows<BackwardPass>& windows,
                             const LeafMemory<Geometry>& shared) {
    const Slope<C> slope = slope_of<C>(w.p.negative_slope);
    if (w.p.y_in != nullptr) {
      map_leaf<Geometry>(windows.grad(), windows.x(), GradInput<C, FromOutput>{{slope}}, shared);
    } else if (w.way == Way::kReduceAndMap) {
      map_leaf<Geometry>(windows.grad(), windows.x(), FrozenGradInput<C>{{slope}}, shared);
    } else {
      map_leaf<Geometry>(windows.grad(), windows.x(), GradInput<C, FromInput>{{slope}}, shared);
    }
  }
  static FNN_DEVICE void put(const Parts& parts, int64_t at, const Total& total) {
    parts.first[at] = total.first;
    parts.second[at] = total.second;
  }
};

// A leaf's windows as read_windows and write_windows want them.
template <class Geometry>
struct Windows {
  const Geometry& geometry;
  const typename Geometry::Leaf& leaf;
  FNN_DEVICE typename Geometry::Cursor first() const { return leaf.first; }
  FNN_DEVICE Window at(const typename Geometry::Cursor& cursor) const { return geometry.window(leaf, cursor); }
  FNN_DEVICE void advance(typename Geometry::Cursor& cursor) const { geometry.advance(cursor); }
};

// The windows of a leaf: those of x (or y) and, where the pass reads it, of grad.
template <class Pass>
struct LeafWindows {
  using Geometry = typename Pass::Geometry;
  using T = typename Geometry::Storage;
  static constexpr int kArrays = Pass::kReadsGrad ? 2 : 1;

  Bytes16 data[kArrays][Geometry::kItems];
  Chosen chosen;

  FNN_DEVICE WindowsOf<Geometry>& x() { return data[0]; }
  FNN_DEVICE const WindowsOf<Geometry>& grad() const { return data[kArrays - 1]; }

  FNN_DEVICE void read(const BatchNorm& p, const Geometry& geometry, const typename Geometry::Leaf& leaf, bool kept) {
    const int64_t count = p.outer * p.channels * p.inner;
    // Other blocks may be writing the rest of a partial window, where the output takes an input's place.
    const void* out = Pass::output(p);
    const Array<T> from_x(Pass::input(p), count, Pass::input(p) == out);
    const Windows<Geometry> windows{geometry, leaf};
    if constexpr (Pass::kReadsGrad) {
      const Array<T> from[] = {from_x, Array<T>(p.grad, count, p.grad == out)};
      chosen = read_windows(from, windows, leaf.all_chosen, kept, data);
    } else {
      const Array<T> from[] = {from_x};
      chosen = read_windows(from, windows, leaf.all_chosen, kept, data);
    }
  }
  FNN_DEVICE void write(const BatchNorm& p, const Geometry& geometry, const typename Geometry::Leaf& leaf) {
    const Array<T> to(Pass::output(p), p.outer * p.channels * p.inner, false);
    write_windows(to, Windows<Geometry>{geometry, leaf}, data[0]);
  }
};

// Tables of a strip from given statistics, for all threads of the block.
template <class Geometry>
FNN_DEVICE void set_tables(const Work<Geometry>& w, int64_t strip, LeafMemory<Geometry>& shared) {
  using C = Compute<typename Geometry::Storage>;
  __syncthreads();  // nobody reads the old ones any more
  const int column = static_cast<int>(threadIdx.x);
  if (column < Geometry::kColumns) {
    const int64_t at = w.geometry.index(strip, column);
    shared.tables[Geometry::place(column)] =
        at < w.geometry.width() ? given_channel<C>(w.p, w.means, w.geometry.channel(at)) : Channel<C>{};
  }
  __syncthreads();
}

// Lanes that merge the parts of a channel.
template <class Geometry>
constexpr int kMergingLanes = kThreads / Geometry::kColumns < kWarp ? kThreads / Geometry::kColumns : kWarp;

// Tables of a strip from its parts, for all threads of the block.
template <class Pass, class Geometry>
FNN_DEVICE void finish_tables(const Work<Geometry>& w, int64_t strip, bool writes, LeafMemory<Geometry>& shared) {
  using C = Compute<typename Geometry::Storage>;
  constexpr int kLanes = kMergingLanes<Geometry>;
  const int column = static_cast<int>(threadIdx.x) / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  __syncthreads();  // nobody reads the old ones any more
  const int64_t at = w.geometry.index(strip, column);
  const bool exists = column < Geometry::kColumns && at < w.geometry.width();
  // In place of one that is not there another of the strip, without parts: those of other strips may still be written. All
  // threads come to the shuffles.
  const int64_t channel = w.geometry.channel(exists ? at : w.geometry.index(strip, 0));
  const auto total = merged(w.parts, channel, exists ? lane : kNoLane, kLanes, typename Pass::Total{});
  if (column < Geometry::kColumns && lane == 0) {
    shared.tables[Geometry::place(column)] =
        exists ? finished<C>(w.p, channel, total, writes && at < w.p.channels) : Channel<C>{};
  }
  __syncthreads();
}

template <class Pass, class Geometry>
FNN_DEVICE void put_part(const Work<Geometry>& w, int64_t strip, int64_t part, const typename Pass::Total& total) {
  const int column = static_cast<int>(threadIdx.x);
  if (column >= Geometry::kColumns) return;
  const int64_t at = w.geometry.index(strip, column);
  if (at < w.geometry.width()) Pass::put(w.parts, part * w.geometry.width() + at, total);
}

// Task by task; the blocks with one x are a group, which shares its tasks. Resident: a block reads and reduces its leaves of
// a unit, waits for those of its group, and maps them, last leaf first: that one is still in registers, the others are kept
// in shared memory. `way` and the sizes are the launch's, so that all threads of a block take the same branches.
template <class Pass>
FNN_KERNEL(kThreads, 2)
pass_over_leaves(const __grid_constant__ Work<typename Pass::Geometry> w) {
  using Geometry = typename Pass::Geometry;
  constexpr int kItems = Geometry::kItems;
  char* const memory = shared_memory();
  auto& shared = *reinterpret_cast<LeafMemory<Geometry>*>(memory);
  const auto place_of = [memory](int64_t n, int i) -> Bytes16& {
    return reinterpret_cast<Bytes16*>(memory + (sizeof(LeafMemory<Geometry>) + 127) / 128 *
                                                   128)[(n * kWindowsPerThread + i) * kThreads + threadIdx.x];
  };
  const bool resident = w.way == Way::kResident;
  const int64_t leaves = w.geometry.leaves();
  uint32_t round = 0;

#pragma unroll 1
  for (int64_t turn = blockIdx.x; turn < w.tasks; turn += gridDim.x) {
    const int64_t task = w.way == Way::kMap ? w.tasks - 1 - turn : turn;
    const int64_t part = w.across.quotient(task);
    const int64_t first_strip = (task - part * w.across.number()) * w.strips_per_task;
    const int64_t begin = (blockIdx.y + part) * w.leaves_per_task;
    const int64_t rest = w.strips_per_task * leaves - begin;
    const auto count = static_cast<int32_t>(rest < w.leaves_per_task ? rest : w.leaves_per_task);
    LeafWindows<Pass> windows;
    typename Pass::Total total{};
    int32_t tables_of = -1;  // the strip whose tables are there
#pragma unroll 1
    for (int32_t step = 0; step < (resident ? 2 * count : count); ++step) {
      const bool again = step >= count;
      const int32_t n = again ? 2 * count - 1 - step : step;
      // Strips are counted from the task's first, and only the resident way comes to another.
      const int32_t strip = resident ? static_cast<int32_t>(w.leaves.quotient(begin + n)) : 0;
      const int64_t number = begin + n - strip * leaves;
      const auto leaf = w.geometry.leaf(first_strip + strip, number);
      const bool maps = again || w.way == Way::kMap || w.way == Way::kReduceAndMap;

      if (!again) {
        windows.read(w.p, w.geometry, leaf, w.way == Way::kReduce);
      } else if (step > count) {
#pragma unroll
        for (int i = 0; i < kWindowsPerThread; ++i) windows.data[i / kItems][i % kItems] = place_of(n, i);
      } else {
        tables_of = -1;
        if (gridDim.y == 1) {
          __syncthreads();
        } else {
          group_barrier(w.counters + blockIdx.x, gridDim.y, ++round);
        }
      }
      if ((maps || Pass::kReadsGrad) && strip != tables_of) {
        tables_of = strip;
        if (again) {
          // A strip's results are written by the block that holds its first leaf.
          finish_tables<Pass>(w, first_strip + strip, strip * leaves >= begin, shared);
        } else {
          set_tables(w, first_strip + strip, shared);
        }
      }
      if (!again && w.way != Way::kMap) {
        Pass::add(w, first_strip + strip, leaf, windows, shared, total);
        if (resident || n + 1 == count) {
          put_part<Pass>(w, first_strip + strip, resident ? number : part, total);
          total = {};
        }
        if (resident && n + 1 != count) {
#pragma unroll
          for (int i = 0; i < kWindowsPerThread; ++i) place_of(n, i) = windows.data[i / kItems][i % kItems];
        }
      }
      if (maps) {
        Pass::map(w, windows, shared);
        windows.write(w.p, w.geometry, w.geometry.leaf(first_strip + strip, forgotten(number)));
      }
    }
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
