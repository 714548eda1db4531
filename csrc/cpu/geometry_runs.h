// inner > 1 (NCHW): a channel is `outer` runs of `inner` contiguous elements.
//
// A leaf is about kLeaf elements of one channel: a piece of one run, or several whole short runs. Where leaves begin
// depends on the shape alone. Units: neighbouring channels, which no result depends on. Parts: leaves.
#pragma once

#include "cpu/channel_tables.h"
#include "cpu/element_wise.h"
#include "cpu/lanes.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T>
class Runs {
 public:
  using Storage = T;
  using C = Compute<T>;

  // Both passes over one unit, then over the next: a unit is long stretches of memory.
  static constexpr bool kUnitByUnit = true;
  static constexpr int64_t kPartsPerTask = 8;

  // `arrays`: how many full-size arrays the first pass reads.
  Runs(const BatchNorm& p, int arrays) : outer_(p.outer), channels_(p.channels), inner_(p.inner), arrays_(arrays) {
    if (inner_ > kLeaf) {
      pieces_ = (inner_ + kLeaf - 1) / kLeaf;
      piece_ = ((inner_ + pieces_ - 1) / pieces_ + kLanes<C> - 1) / kLanes<C> * kLanes<C>;
      pieces_ = (inner_ + piece_ - 1) / piece_;
      parts_ = outer_ * pieces_;
    } else if (inner_ > 0) {
      runs_per_leaf_ = kLeaf / inner_;
      parts_ = (outer_ + runs_per_leaf_ - 1) / runs_per_leaf_;
      // Runs far shorter than a page would touch one page each: neighbouring channels share it.
      const int64_t together = runs_per_leaf_ == 1 ? 1 : kStretchBytes / (inner_ * static_cast<int64_t>(sizeof(T)));
      group_ = together < channels_ ? together : channels_;
      group_ = group_ < 1 ? 1 : group_;
    }
  }

  static int64_t table_length(int64_t channels) { return channels; }

  int64_t units() const { return (channels_ + group_ - 1) / group_; }
  int64_t parts() const { return parts_; }
  int64_t elements() const { return outer_ * channels_ * inner_; }
  int64_t unit_bytes() const { return outer_ * inner_ * group_ * arrays_ * static_cast<int64_t>(sizeof(T)); }
  int64_t first_channel(int64_t unit) const { return unit * group_; }
  int64_t end_channel(int64_t unit) const {
    const int64_t end = (unit + 1) * group_;
    return end < channels_ ? end : channels_;
  }
  // Whether stretches of memory are long enough for non-temporal stores to fill whole cache lines.
  bool streams_well() const { return inner_ * static_cast<int64_t>(sizeof(T)) >= 512; }

  double part_count(int64_t part) const {
    if (pieces_ > 0) return static_cast<double>(piece_length(part % pieces_));
    return static_cast<double>((last_run(part) - part * runs_per_leaf_) * inner_);
  }

  FNN_ONE_COPY void moments(int64_t unit, int64_t part, const void* x, const Partials& out) const {
    NothingBeside nothing;
    moments(unit, part, x, out, nothing);
  }
  template <class Beside>
  FNN_INLINE void moments(int64_t unit, int64_t part, const void* x, const Partials& out, Beside& beside) const {
    for (int64_t c = first_channel(unit); c < end_channel(unit); ++c) {
      const C pivot = pivot_of(c, part, x);
      const auto add = [pivot](auto e, auto, auto& sum, auto& squares) {
        const auto d = e - pivot;
        sum += d;
        squares += d * d;
      };
      const TwoSums sums = sum_leaf(c, part, x, x, add, beside);
      const Moments m = moments_about(static_cast<double>(pivot), sums.first, sums.second, part_count(part));
      out.first[part * channels_ + c] = m.mean;
      out.second[part * channels_ + c] = m.m2;
    }
  }

  // sums of g and of g * centred, where recover(grad, x, channel) tells both.
  template <class Recover>
  FNN_ONE_COPY void sums(int64_t unit, int64_t part, const void* grad, const void* x, const ChannelTables<C>& tables,
                         const Recover& recover, const Partials& out) const {
    NothingBeside nothing;
    sums(unit, part, grad, x, tables, recover, out, nothing);
  }
  template <class Recover, class Beside>
  FNN_INLINE void sums(int64_t unit, int64_t part, const void* grad, const void* x, const ChannelTables<C>& tables,
                       const Recover& recover, const Partials& out, Beside& beside) const {
    for (int64_t c = first_channel(unit); c < end_channel(unit); ++c) {
      const auto add = [&recover, channel = tables.at(c)](auto g, auto e, auto& a, auto& b) {
        const auto r = recover(g, e, channel);
        a += r.grad;
        b += r.grad * r.centred;
      };
      const TwoSums s = sum_leaf(c, part, grad, x, add, beside);
      out.first[part * channels_ + c] = s.first;
      out.second[part * channels_ + c] = s.second;
    }
  }

  // out = f(grad, x, channel) for a part of a unit.
  template <class F>
  void map(int64_t unit, int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables,
           bool streamed, const F& f) const {
    if (pieces_ > 0) {
      const int64_t begin = (part / pieces_ * channels_ + unit) * inner_ + part % pieces_ * piece_;
      map_stretch(begin, begin + piece_length(part % pieces_), grad, x, out, tables, streamed, f);
      return;
    }
    for (int64_t run = last_run(part) - 1; run >= part * runs_per_leaf_; --run) {
      const int64_t begin = (run * channels_ + first_channel(unit)) * inner_;
      const int64_t end = (run * channels_ + end_channel(unit)) * inner_;
      map_stretch(begin, end, grad, x, out, tables, streamed, f);
    }
  }

  // Whether a leaf is one stretch of memory, as the next function wants it.
  bool leaves_are_stretches() const { return pieces_ > 0 || runs_per_leaf_ == 1; }

  // map() past the caches, line by line beside reduce(beside), which reads the same part of another unit: what is read
  // from memory and what is written keep each other's waiting time short.
  template <class F, class Reduce>
  FNN_ONE_COPY void map_beside(int64_t unit, int64_t part, const void* grad, const void* x, void* out,
                               const ChannelTables<C>& tables, const F& f, const Reduce& reduce) const {
    const int64_t pieces = pieces_ > 0 ? pieces_ : 1;
    const int64_t begin = (part / pieces * channels_ + unit) * inner_ + part % pieces * piece_;
    const int64_t end = begin + static_cast<int64_t>(part_count(part));
    const int64_t aligned = begin + elements_to_line<T>(out, begin, end - begin);
    const auto of_channel = [f, channel = tables.at(unit)](auto g, auto e) { return f(g, e, channel); };
    using Cursor = PairCursor<T, decltype(of_channel)>;
    StreamedSteps<T, kLanes<C>, Cursor> steps{out, aligned, end, {grad, x, of_channel}};
    // Both loops come to their runs' ends together; the channel that is read goes on in its next run.
    const int64_t near_end = (part / pieces * channels_ + unit + 1) * inner_ - kAhead / static_cast<int64_t>(sizeof(T));
    const int64_t to_next_run = (channels_ - 1) * inner_;
    const auto beside = [&steps, near_end, to_next_run](const void* first, const void* second)
                            __attribute__((always_inline)) {
                              const int64_t skipped = steps.at < near_end ? 0 : to_next_run;
                              fetch_ahead(element<T>(first, skipped));
                              if (second != first) fetch_ahead(element<T>(second, skipped));
                              steps();
                            };
    reduce(beside);
    map_stretch(begin, aligned, grad, x, out, tables, true, f);
    map_stretch(steps.at, end, grad, x, out, tables, true, f);
  }

  // The same for all of the array, in the order of memory.
  int64_t map_tasks() const { return (outer_ * channels_ * inner_ + kMapTask - 1) / kMapTask; }
  template <class F>
  void map_task(int64_t task, const void* grad, const void* x, void* out, const ChannelTables<C>& tables, bool streamed,
                const F& f) const {
    const int64_t total = outer_ * channels_ * inner_;
    const int64_t end = (task + 1) * kMapTask < total ? (task + 1) * kMapTask : total;
    map_stretch(task * kMapTask, end, grad, x, out, tables, streamed, f);
  }

 private:
  static constexpr int64_t kLeaf = 4096;
  static constexpr int64_t kPivot = 256;
  static constexpr int64_t kStretchBytes = 1 << 14;
  static constexpr int64_t kMapTask = 1 << 15;
  static constexpr int64_t kAhead = sizeof(T) < sizeof(float) ? 6144 : 4096;  // bytes

  // The machine alone waits at every page's and every leaf's beginning.
  static FNN_INLINE void fetch_ahead(const void* p) {
    constexpr int64_t kLine = 64;
    for (int64_t at = 0; at < kLanes<C> * static_cast<int64_t>(sizeof(T)); at += kLine) {
      __builtin_prefetch(element<char>(p, kAhead + at));
    }
  }

  int64_t last_run(int64_t part) const {
    const int64_t end = (part + 1) * runs_per_leaf_;
    return end < outer_ ? end : outer_;
  }

  int64_t piece_length(int64_t piece) const {
    const int64_t left = inner_ - piece * piece_;
    return left < piece_ ? left : piece_;
  }

  // f(index of the first element, length) for each run of a leaf, until it says no.
  template <class F>
  FNN_INLINE void runs(int64_t c, int64_t part, const F& f) const {
    const bool pieces = pieces_ > 0;
    const int64_t first = pieces ? part / pieces_ : part * runs_per_leaf_;
    const int64_t count = pieces ? 1 : last_run(part) - first;
    const int64_t length = pieces ? piece_length(part % pieces_) : inner_;
    int64_t begin = (first * channels_ + c) * inner_ + (pieces ? part % pieces_ * piece_ : 0);
    for (int64_t i = 0; i < count; ++i, begin += channels_ * inner_) {
      if (!f(begin, length)) return;
    }
  }

  template <class Add, class Beside>
  FNN_INLINE TwoSums sum_leaf(int64_t c, int64_t part, const void* x, const void* z, const Add& add,
                              Beside& beside) const {
    LaneSums<T> sums;
    runs(c, part, [&](int64_t begin, int64_t length) {
      sums.add_run(element<T>(x, begin), element<T>(z, begin), length, add, beside);
      return true;
    });
    return sums.total();
  }

  // The mean of a leaf's first k elements, about which one pass over all n gives sum and squares. Should it lie s away
  // from the leaf's mean, up to n s^2 is subtracted from the rounded sum of squares; but then those k elements deviate by
  // s, and at least k s^2 remains. So that costs n / k = 16 roundings at the very worst.
  FNN_ONE_COPY C pivot_of(int64_t c, int64_t part, const void* x) const {
    LaneSums<T> sums;
    int64_t n = 0;
    runs(c, part, [&](int64_t begin, int64_t length) {
      const int64_t taken = length < kPivot - n ? length : kPivot - n;
      const void* p = element<T>(x, begin);
      sums.add_run(p, p, taken, [](auto e, auto, auto& sum, auto&) { sum += e; });
      n += taken;
      return n < kPivot;
    });
    return C(sums.total().first / static_cast<double>(n));
  }

  // Over elements [begin, end) as they lie in memory. Not inlined: three callers would hold a copy each.
  template <class F>
  FNN_ONE_COPY void map_stretch(int64_t begin, int64_t end, const void* grad, const void* x, void* out,
                                const ChannelTables<C>& tables, bool streamed, const F& f) const {
    int64_t run = begin / inner_;
    int64_t c = run % channels_;
    while (begin < end) {
      const int64_t stop = (run + 1) * inner_ < end ? (run + 1) * inner_ : end;
      map_elements<T>(grad, x, out, begin, stop, streamed,
                      [&f, channel = tables.at(c)](auto g, auto e) { return f(g, e, channel); });
      begin = stop;
      ++run;
      c = c + 1 == channels_ ? 0 : c + 1;
    }
  }

  int64_t outer_, channels_, inner_, arrays_;
  int64_t pieces_ = 0;  // of a run, where a run is longer than a leaf; else 0
  int64_t piece_ = 0;
  int64_t runs_per_leaf_ = 0;
  int64_t parts_ = 0;
  int64_t group_ = 1;  // channels of a unit
};

}  // namespace FNN_UNIT
}  // namespace fusednn
