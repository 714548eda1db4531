// BatchNorm's kernels, over either geometry. Memory moved, in arrays:
//
//   resident             forward 1R + 1W, backward 2R + 1W: a group of blocks holds all leaves of a unit (a channel; a strip
//                        of columns; all strips, where a channel has columns in several) in registers and shared memory
//   reduce, finish, map  forward 2R + 1W, backward 4R + 1W, the map in reverse order: what was read last is still in L2
//
// Both have the same leaves and the same parts, merged by the same functions: the same bits.
#pragma once

#include "cuda/batch_norm_channels.cuh"
#include "cuda/batch_norm_leaves.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

template <class Pass>
struct LeafWindows;

// A pass from x to y. A Pass says what a leaf is reduced to and what maps it afterwards.
template <class Geometry_>
struct ForwardPass {
  using Geometry = Geometry_;
  using C = Compute<typename Geometry::Storage>;
  using Total = Moments;
  using Formula = Normalize<C>;
  static constexpr bool kReadsGrad = false;

  static FNN_INLINE Formula formula(const BatchNorm& p) { return {C(p.negative_slope)}; }
  static FNN_INLINE const void* input(const BatchNorm& p) { return p.x; }
  static FNN_INLINE void* output(const BatchNorm& p) { return p.y; }

  static FNN_DEVICE void add(const BatchNorm& /*p*/, const Geometry& geometry, int64_t strip,
                             const typename Geometry::Leaf& leaf, LeafWindows<ForwardPass>& windows,
                             LeafMemory<Geometry>& shared, Total& total) {
    add_leaf_moments(geometry, strip, leaf, windows.x(), windows.chosen, shared, total);
  }
  static FNN_DEVICE void put(const Parts& parts, int64_t at, const Total& total) {
    parts.first[at] = total.mean;
    parts.second[at] = total.m2;
    parts.count[at] = total.count;
  }
};

// From grad and x, or from grad and y, to grad_x.
template <class Geometry_, class From, class Formula_>
struct BackwardPass {
  using Geometry = Geometry_;
  using C = Compute<typename Geometry::Storage>;
  using Total = TwoSums;
  using Formula = Formula_;
  static constexpr bool kReadsGrad = true;

  static FNN_INLINE Formula formula(const BatchNorm& p) { return {{slope_of<C>(p.negative_slope)}}; }
  static FNN_INLINE const void* input(const BatchNorm& p) { return p.y_in != nullptr ? p.y_in : p.x; }
  static FNN_INLINE void* output(const BatchNorm& p) { return p.grad_x; }

  static FNN_DEVICE void add(const BatchNorm& p, const Geometry& /*geometry*/, int64_t /*strip*/,
                             const typename Geometry::Leaf& /*leaf*/, LeafWindows<BackwardPass>& windows,
                             LeafMemory<Geometry>& shared, Total& total) {
    add_leaf_sums<Geometry>(windows.grad(), windows.x(), Recover<C, From>{slope_of<C>(p.negative_slope)}, shared,
                            total);
  }
  static FNN_DEVICE void put(const Parts& parts, int64_t at, const Total& total) {
    parts.first[at] = total.first;
    parts.second[at] = total.second;
  }
};

// One launch's arguments.
template <class Geometry>
struct Work {
  BatchNorm p;
  Geometry geometry;
  Parts parts;
  int64_t leaves_per_part;
  GradMeans means;
  // Of the resident kernel.
  int64_t units, strips_per_unit, leaves_per_block;
  uint32_t group;      // blocks that hold a unit
  uint32_t* counters;  // one for each group, zero before the launch
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
  FNN_DEVICE void map(const BatchNorm& p, const Geometry& geometry, const typename Geometry::Leaf& leaf,
                      const LeafMemory<Geometry>& shared) {
    map_leaf<Geometry>(grad(), x(), Pass::formula(p), shared);
    const Array<T> to(Pass::output(p), p.outer * p.channels * p.inner, false);
    write_windows(to, Windows<Geometry>{geometry, leaf}, x());
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
  __syncthreads();                    // nobody reads the old ones any more
  if (column < Geometry::kColumns) {  // of all lanes of a warp, or of none
    const int64_t at = w.geometry.index(strip, column);
    const bool exists = at < w.geometry.width();
    // In place of one that is not there another of the strip: those of other strips may still be written.
    const int64_t channel = w.geometry.channel(exists ? at : w.geometry.index(strip, 0));
    const auto total = merged<kLanes>(w.parts, channel, lane, typename Pass::Total{});
    if (lane == 0) {
      shared.tables[Geometry::place(column)] =
          exists ? finished<C>(w.p, channel, total, writes && at < w.p.channels) : Channel<C>{};
    }
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

// Reduces parts. kMaps: and maps each leaf while it is there, by a formula that does not wait for the sums.
template <class Pass, bool kMaps>
FNN_KERNEL(kThreads, kMaps ? 1 : 2)
reduce_parts(const __grid_constant__ Work<typename Pass::Geometry> w) {
  using Geometry = typename Pass::Geometry;
  auto& shared = *reinterpret_cast<LeafMemory<Geometry>*>(shared_memory());
  const int64_t strips = w.geometry.strips();
  const int64_t leaves = w.geometry.leaves();
  for (int64_t task = blockIdx.x; task < strips * w.parts.parts; task += gridDim.x) {
    const int64_t strip = task % strips;
    const int64_t part = task / strips;
    if constexpr (Pass::kReadsGrad) set_tables(w, strip, shared);
    typename Pass::Total total{};
    const int64_t begin = part * w.leaves_per_part;
    const int64_t end = begin + w.leaves_per_part < leaves ? begin + w.leaves_per_part : leaves;
    for (int64_t number = begin; number < end; ++number) {
      const auto leaf = w.geometry.leaf(strip, number);
      LeafWindows<Pass> windows;
      windows.read(w.p, w.geometry, leaf, !kMaps);
      Pass::add(w.p, w.geometry, strip, leaf, windows, shared, total);
      if constexpr (kMaps) windows.map(w.p, w.geometry, leaf, shared);
    }
    put_part<Pass>(w, strip, part, total);
  }
}

// Results, and what the map needs, from the parts of all channels.
template <class Total, class C, int kLanes>
FNN_KERNEL(kThreads, 1)
finish_channels(const __grid_constant__ BatchNorm p, const __grid_constant__ Parts parts, C* mean_grad, C* slope_grad) {
  constexpr int64_t kChannels = kThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int64_t first = blockIdx.x * kChannels; first < p.channels; first += gridDim.x * kChannels) {
    const int64_t channel = first + threadIdx.x / kLanes;
    const bool exists = channel < p.channels;
    const Total total = merged<kLanes>(parts, exists ? channel : first, lane, Total{});
    if (!exists || lane != 0) continue;
    const Channel<C> k = finished<C>(p, channel, total, true);
    put_number<C>(mean_grad, channel, static_cast<double>(k.mean_grad));
    put_number<C>(slope_grad, channel, static_cast<double>(k.slope_grad));
  }
}

// The output from given statistics and sums, the last leaf first.
template <class Pass>
FNN_KERNEL(kThreads, 2)
map_leaves(const __grid_constant__ Work<typename Pass::Geometry> w) {
  using Geometry = typename Pass::Geometry;
  auto& shared = *reinterpret_cast<LeafMemory<Geometry>*>(shared_memory());
  const int64_t strips = w.geometry.strips();
  const int64_t tasks = strips * w.geometry.leaves();
  for (int64_t task = tasks - 1 - blockIdx.x; task >= 0; task -= gridDim.x) {
    const auto leaf = w.geometry.leaf(task % strips, task / strips);
    LeafWindows<Pass> windows;
    windows.read(w.p, w.geometry, leaf, false);
    set_tables(w, task % strips, shared);
    windows.map(w.p, w.geometry, leaf, shared);
  }
}

// Unit by unit: every block of a group reads and reduces its leaves, waits for the others' sums, maps. The last leaf stays
// in registers, the others in shared memory.
template <class Pass>
FNN_KERNEL(kThreads, 2)
resident(const __grid_constant__ Work<typename Pass::Geometry> w) {
  using Geometry = typename Pass::Geometry;
  constexpr int kItems = Geometry::kItems;
  char* const memory = shared_memory();
  auto& shared = *reinterpret_cast<LeafMemory<Geometry>*>(memory);
  const auto place_of = [memory](int64_t n, int i) -> Bytes16& {
    return reinterpret_cast<Bytes16*>(memory + (sizeof(LeafMemory<Geometry>) + 127) / 128 *
                                                   128)[(n * kWindowsPerThread + i) * kThreads + threadIdx.x];
  };
  const int64_t leaves = w.geometry.leaves();
  const int64_t all = w.strips_per_unit * leaves;
  const uint32_t group = blockIdx.x / w.group;
  const int64_t begin = static_cast<int64_t>(blockIdx.x % w.group) * w.leaves_per_block;
  const int64_t end = begin + w.leaves_per_block < all ? begin + w.leaves_per_block : all;
  uint32_t round = 0;

  for (int64_t unit = group; unit < w.units; unit += gridDim.x / w.group) {
    LeafWindows<Pass> windows;
    int64_t strip = -1;
    for (int64_t n = begin; n < end; ++n) {
      const int64_t its_strip = unit * w.strips_per_unit + n / leaves;
      const auto leaf = w.geometry.leaf(its_strip, n % leaves);
      windows.read(w.p, w.geometry, leaf, false);
      if constexpr (Pass::kReadsGrad) {
        if (its_strip != strip) set_tables(w, its_strip, shared);
        strip = its_strip;
      }
      typename Pass::Total total{};
      Pass::add(w.p, w.geometry, its_strip, leaf, windows, shared, total);
      put_part<Pass>(w, its_strip, n % leaves, total);
      if (n + 1 == end) break;
#pragma unroll
      for (int i = 0; i < kWindowsPerThread; ++i) place_of(n - begin, i) = windows.data[i / kItems][i % kItems];
    }
    if (w.group == 1) {
      __syncthreads();
    } else {
      group_barrier(w.counters + group, w.group, ++round);
    }
    strip = -1;
    for (int64_t n = end - 1; n >= begin; --n) {
      if (n + 1 != end) {
#pragma unroll
        for (int i = 0; i < kWindowsPerThread; ++i) windows.data[i / kItems][i % kItems] = place_of(n - begin, i);
      }
      const int64_t its_strip = unit * w.strips_per_unit + n / leaves;
      if (its_strip != strip) {
        // A strip's results are written by the block that holds its first leaf.
        finish_tables<Pass>(w, its_strip, its_strip * leaves >= unit * w.strips_per_unit * leaves + begin, shared);
        strip = its_strip;
      }
      windows.map(w.p, w.geometry, w.geometry.leaf(its_strip, n % leaves), shared);
    }
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
