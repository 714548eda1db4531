// inner == 1 (NHWC, NC): a channel is a column of a (rows, channels) matrix.
//
// `fold` rows are taken as one row of fold * channels columns, so many that it consists of whole windows, and few
// channels fill a strip; what the columns of a channel yield is merged at the end. A strip is eight windows of every
// row, 128 bytes; a leaf is 32 * kItems rows of it: 32 KiB of the arrays that are read.
#pragma once

#include "core/problem.h"
#include "cuda/batch_norm_leaves.cuh"
#include "cuda/divisor.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

// `kArrays`: how many full-size arrays a reduction reads.
template <class T, int kArrays>
class Columns {
 public:
  using Storage = T;
  using C = Compute<T>;
  static constexpr int kItems = kWindowsPerThread / kArrays;
  static constexpr int kWide = 8;
  static constexpr int kColumns = kWide * kPerVector<T>;
  static constexpr bool kOneChannel = false;

  explicit Columns(const BatchNorm& p) : channels_(p.channels), total_(p.outer * p.channels) {
    constexpr int64_t kStep = kPerVector<T>;
    int64_t common = kStep;
    while (p.channels % common != 0) common /= 2;
    fold_ = kStep / common;
    const int64_t windows = fold_ * p.channels / kStep;
    if (windows > 0 && windows < kWide) fold_ *= kWide / windows;
    width_ = fold_ * p.channels;
    whole_rows_ = width_ > 0 ? total_ / width_ : 0;
    rest_ = width_ > 0 ? total_ % width_ : 0;
    leaves_ = (whole_rows_ + (rest_ > 0 ? 1 : 0) + kLeafRows - 1) / kLeafRows;
  }

  FNN_INLINE int64_t strips() const { return (width_ + kColumns - 1) / kColumns; }
  FNN_INLINE int64_t leaves() const { return leaves_; }
  // The numbers that every part of a reduction yields, and the channel that one belongs to.
  FNN_INLINE int64_t width() const { return width_; }
  FNN_INLINE int64_t fold() const { return fold_; }
  FNN_INLINE int64_t index(int64_t strip, int column) const { return strip * kColumns + column; }
  FNN_DEVICE int64_t channel(int64_t index) const {
    return fold_ == 1 ? index : index - channels_.quotient(index) * channels_.number();
  }

  // A thread's windows in a leaf, one after the other: the first element, total where there is none.
  using Cursor = int64_t;
  struct Leaf {
    Cursor first;
    int64_t row;
    bool all_chosen;  // no window is partial or missing
  };
  FNN_DEVICE Leaf leaf(int64_t strip, int64_t number) const {
    const int64_t row = number * kLeafRows;
    const int64_t column = (strip * kWide + wide()) * kPerVector<T>;
    const bool all = (strip + 1) * kColumns <= width_ && row + kLeafRows <= whole_rows_;
    return {column < width_ ? (row + threadIdx.x / kWide) * width_ + column : total_, row, all};
  }

  FNN_DEVICE Window window(const Leaf& leaf, const Cursor& at) const {
    if (leaf.all_chosen) return {at, kAllElements<T>};
    const int64_t rest = total_ - at;
    if (rest >= kPerVector<T>) return {at, kAllElements<T>};
    return {at, rest > 0 ? (1u << rest) - 1u : 0u};
  }
  FNN_DEVICE void advance(Cursor& at) const { at += kRows * width_; }

  // Elements of a column in a leaf.
  FNN_DEVICE int64_t count(const Leaf& leaf, int64_t strip, int column) const {
    const int64_t rows = whole_rows_ + (index(strip, column) < rest_ ? 1 : 0) - leaf.row;
    return rows < 0 ? 0 : rows < kLeafRows ? rows : kLeafRows;
  }

  // The sums of a warp's elements, those of each column apart.
  static FNN_DEVICE void put_sums(const C (&sums)[kPerVector<T>], C* to) {
#pragma unroll
    for (int j = 0; j < kPerVector<T>; ++j) {
      const C sum = sum_over_lanes(kWide, kWarp, sums[j]);
      if (threadIdx.x % kWarp < kWide) to[own_place(j)] = sum;
    }
  }
  // Where a strip's tables hold a column, and the column of this thread's element j: neighbours lie side by side.
  static FNN_DEVICE int place(int column) { return column % kPerVector<T> * kWide + column / kPerVector<T>; }
  static FNN_DEVICE int own_place(int j) { return j * kWide + wide(); }

 private:
  static constexpr int kRows = kThreads / kWide;
  static constexpr int64_t kLeafRows = kRows * kItems;

  static FNN_DEVICE int wide() { return static_cast<int>(threadIdx.x % kWide); }

  Divisor channels_;
  int64_t total_, width_, fold_, leaves_;
  int64_t whole_rows_, rest_;  // of `width` columns; elements of a last, shorter one
};

}  // namespace FNN_UNIT
}  // namespace fusednn
