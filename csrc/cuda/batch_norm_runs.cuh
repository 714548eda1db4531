// inner > 1 (NCHW): a channel is `outer` runs of `inner` contiguous elements, (n, c) at (n * channels + c) * inner.
//
// A strip is a channel. Its slots are the windows of its runs, in order: as many for every run as the worst placed one
// has, so that some are empty. Slots of 256 threads times kItems are a leaf: 32 KiB of the arrays that are read.
#pragma once

#include "core/problem.h"
#include "cuda/batch_norm_leaves.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

// `kArrays`: how many full-size arrays a reduction reads.
template <class T, int kArrays>
class Runs {
 public:
  using Storage = T;
  using C = Compute<T>;
  static constexpr int kItems = kWindowsPerThread / kArrays;
  // Channels of a strip, one of them for every element of a window.
  static constexpr int kColumns = 1;
  static constexpr bool kOneChannel = true;

  explicit Runs(const BatchNorm& p) : outer_(p.outer), channels_(p.channels), inner_(p.inner) {
    constexpr int64_t kStep = kPerVector<T>;
    whole_ = inner_ % kStep == 0;
    windows_ = whole_ ? inner_ / kStep : (inner_ + kStep - 2) / kStep + 1;
    if (windows_ < 1) windows_ = 1;
    leaves_ = inner_ > 0 ? (outer_ * windows_ + kSlots - 1) / kSlots : 0;
    if (windows_ < kSlots) reciprocal_ = static_cast<uint32_t>(((1u << 31) + windows_ - 1) / windows_);
  }

  FNN_INLINE int64_t strips() const { return channels_; }
  FNN_INLINE int64_t leaves() const { return leaves_; }
  // The numbers that every part of a reduction yields; the channels that they belong to are index % channels.
  FNN_INLINE int64_t width() const { return channels_; }
  FNN_INLINE int64_t fold() const { return 1; }
  FNN_INLINE int64_t index(int64_t strip, int /*column*/) const { return strip; }

  struct Leaf {
    int64_t channel, run, window;  // the first slot's
    bool all_chosen;               // no window is partial or missing
  };
  FNN_DEVICE Leaf leaf(int64_t strip, int64_t number) const {
    const int64_t slot = number * kSlots;
    const int64_t run = slot / windows_;
    return {strip, run, slot - run * windows_, whole_ && slot + kSlots <= outer_ * windows_};
  }

  FNN_DEVICE Window window(const Leaf& leaf, int item) const {
    const Slot slot = slot_after(leaf, item * kThreads + threadIdx.x);
    if (slot.run >= outer_) return {0, 0};
    const int64_t begin = (slot.run * channels_ + leaf.channel) * inner_;
    const int64_t first = first_of(begin, slot.window);
    if (leaf.all_chosen) return {first, kAllElements<T>};
    return {first, elements_within<T>(begin - first, begin + inner_ - first)};
  }

  // Elements of a leaf.
  FNN_DEVICE int64_t count(const Leaf& leaf, int64_t /*strip*/, int /*column*/) const {
    return elements_before(leaf, slot_after(leaf, kSlots)) - elements_before(leaf, slot_after(leaf, 0));
  }

  // The sums of a warp's elements, in the order of the threads' places in it.
  static FNN_DEVICE void put_sums(const C (&sums)[kPerVector<T>], C* to) {
    C rest[kPerVector<T>];
#pragma unroll
    for (int j = 0; j < kPerVector<T>; ++j) rest[j] = sums[j];
#pragma unroll
    for (int half = kPerVector<T> / 2; half > 0; half /= 2) {
#pragma unroll
      for (int j = 0; j < half; ++j) rest[j] += rest[j + half];
    }
    const C sum = sum_over_lanes<1, kWarp>(rest[0]);
    if (threadIdx.x % kWarp == 0) to[0] = sum;
  }
  // Where a strip's tables hold a column, and the column of this thread's element j.
  static FNN_DEVICE int place(int /*column*/) { return 0; }
  static FNN_DEVICE int own_place(int /*j*/) { return 0; }

 private:
  static constexpr int kSlots = kThreads * kItems;

  struct Slot {
    int64_t run, window;
  };
  FNN_DEVICE Slot slot_after(const Leaf& leaf, uint32_t distance) const {
    if (windows_ >= kSlots) {
      const int64_t window = leaf.window + distance;
      return window < windows_ ? Slot{leaf.run, window} : Slot{leaf.run + 1, window - windows_};
    }
    // Both numbers below 2^13: the product with the rounded reciprocal is exact after the shift.
    const uint32_t slot = static_cast<uint32_t>(leaf.window) + distance;
    const auto run = static_cast<uint32_t>((uint64_t{slot} * reciprocal_) >> 31);
    return {leaf.run + run, static_cast<int64_t>(slot - run * static_cast<uint32_t>(windows_))};
  }
  static FNN_DEVICE int64_t first_of(int64_t begin, int64_t window) {
    return (begin / kPerVector<T> + window) * kPerVector<T>;
  }
  FNN_DEVICE int64_t elements_before(const Leaf& leaf, const Slot& slot) const {
    if (slot.run >= outer_) return outer_ * inner_;
    const int64_t begin = (slot.run * channels_ + leaf.channel) * inner_;
    const int64_t in_run = first_of(begin, slot.window) - begin;
    return slot.run * inner_ + (in_run < 0 ? 0 : in_run > inner_ ? inner_ : in_run);
  }

  int64_t outer_, channels_, inner_;
  int64_t windows_;  // slots of a run
  int64_t leaves_;
  uint32_t reciprocal_ = 0;
  bool whole_;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
