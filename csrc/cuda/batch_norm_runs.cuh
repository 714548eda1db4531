// inner > 1 (NCHW): a channel is `outer` runs of `inner` contiguous elements, (n, c) at (n * channels + c) * inner.
//
// A strip is a channel. Its slots are the windows of its runs, in order: as many for every run as the worst placed one
// has, so that some are empty. Slots of 256 threads times kItems are a leaf: 32 KiB of the arrays that are read.
#pragma once

#include "core/problem.h"
#include "cuda/batch_norm_leaves.cuh"
#include "cuda/divisor.cuh"

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

  explicit Runs(const BatchNorm& p)
      : channels_(p.channels), inner_(p.inner), whole_(p.inner % kStep == 0), windows_(windows_of(p.inner)) {
    const int64_t windows = windows_.number();
    slots_ = p.outer * windows;
    leaves_ = (slots_ + kSlots - 1) / kSlots;
    pitch_ = channels_ * inner_;
    longest_ = windows * kStep;
    if (windows > 0) next_ahead_ = kThreads % windows * kStep;
    if (windows > 0) next_begin_ = kThreads / windows * pitch_;
  }

  FNN_INLINE int64_t strips() const { return channels_; }
  FNN_INLINE int64_t leaves() const { return leaves_; }
  // The numbers that every part of a reduction yields, and the channel that one belongs to.
  FNN_INLINE int64_t width() const { return channels_; }
  FNN_INLINE int64_t fold() const { return 1; }
  FNN_INLINE int64_t index(int64_t strip, int /*column*/) const { return strip; }
  FNN_DEVICE int64_t channel(int64_t index) const { return index; }

  // A thread's windows in a leaf, one after the other.
  struct Cursor {
    int64_t begin;  // of its run
    int64_t ahead;  // elements of the run's windows before it
    int32_t left;   // slots of the leaf from here on
  };
  struct Leaf {
    Cursor first;
    int64_t slot;     // the first one's number
    bool all_chosen;  // no window is partial or missing
  };
  FNN_DEVICE Leaf leaf(int64_t strip, int64_t number) const {
    const int64_t slot = number * kSlots;
    const int64_t own = slot + threadIdx.x;
    const int64_t run = windows_.quotient(own);
    const int64_t left = slots_ - slot < kSlots ? slots_ - slot : kSlots;
    const Cursor first{run * pitch_ + strip * inner_, (own - run * windows_.number()) * kStep,
                       static_cast<int32_t>(left) - static_cast<int32_t>(threadIdx.x)};
    return {first, slot, whole_ && left == kSlots};
  }

  FNN_DEVICE Window window(const Leaf& leaf, const Cursor& at) const {
    const int64_t first = (at.begin & -kStep) + at.ahead;
    if (leaf.all_chosen) return {first, kAllElements<T>};
    const auto into = static_cast<int32_t>(at.begin & (kStep - 1));
    const int64_t rest = inner_ + into - at.ahead;
    const uint32_t end = rest >= kStep ? kAllElements<T> : rest > 0 ? (1u << rest) - 1u : 0u;
    const uint32_t before = at.ahead == 0 ? (1u << into) - 1u : 0u;
    return {first, at.left > 0 ? end & ~before : 0u};
  }
  FNN_DEVICE void advance(Cursor& at) const {
    at.left -= kThreads;
    at.ahead += next_ahead_;
    at.begin += next_begin_;
    if (at.ahead >= longest_) {
      at.ahead -= longest_;
      at.begin += pitch_;
    }
  }

  // Elements of a leaf.
  FNN_DEVICE int64_t count(const Leaf& leaf, int64_t strip, int /*column*/) const {
    const int64_t end = leaf.slot + kSlots < slots_ ? leaf.slot + kSlots : slots_;
    if (whole_) return (end - leaf.slot) * kStep;
    return elements_before(strip, end) - elements_before(strip, leaf.slot);
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
    const C sum = sum_over_lanes(1, kWarp, rest[0]);
    if (threadIdx.x % kWarp == 0) to[0] = sum;
  }
  // Where a strip's tables hold a column, and the column of this thread's element j.
  static FNN_DEVICE int place(int /*column*/) { return 0; }
  static FNN_DEVICE int own_place(int /*j*/) { return 0; }

 private:
  static constexpr int64_t kStep = kPerVector<T>;
  static constexpr int64_t kSlots = kThreads * kItems;

  FNN_DEVICE int64_t elements_before(int64_t strip, int64_t slot) const {
    const int64_t run = windows_.quotient(slot);
    const int64_t begin = run * pitch_ + strip * inner_;
    const int64_t in_run = (slot - run * windows_.number()) * kStep - (begin & (kStep - 1));
    return run * inner_ + (in_run < 0 ? 0 : in_run > inner_ ? inner_ : in_run);
  }

  static int64_t windows_of(int64_t inner) {
    if (inner == 0) return 0;
    return inner % kStep == 0 ? inner / kStep : (inner + kStep - 2) / kStep + 1;
  }

  int64_t channels_, inner_;
  bool whole_;       // every run consists of whole windows
  Divisor windows_;  // slots of a run
  int64_t slots_, leaves_;
  int64_t pitch_;                            // elements from a channel's run to its next
  int64_t longest_;                          // elements of a run's windows
  int64_t next_ahead_ = 0, next_begin_ = 0;  // what the next window of a thread adds
};

}  // namespace FNN_UNIT
}  // namespace fusednn
