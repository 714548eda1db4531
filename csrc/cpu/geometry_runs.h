// inner > 1 (NCHW): a channel is `outer` runs of `inner` contiguous elements.
//
// A leaf is about kLeaf elements of one channel: a piece of one run, or several whole short runs gathered together.
// Where leaves begin depends on the shape alone. Units: channels. Parts: leaves.
#pragma once

#include "cpu/channel_tables.h"
#include "cpu/lanes.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T>
class Runs {
 public:
  using Storage = T;
  using C = Compute<T>;

  explicit Runs(const BatchNorm& p) : outer_(p.outer), channels_(p.channels), inner_(p.inner) {
    if (inner_ > kLeaf) {
      pieces_ = (inner_ + kLeaf - 1) / kLeaf;
      piece_ = ((inner_ + pieces_ - 1) / pieces_ + kLanes<C> - 1) / kLanes<C> * kLanes<C>;
      pieces_ = (inner_ + piece_ - 1) / piece_;
      parts_ = outer_ * pieces_;
    } else if (inner_ > 0) {
      runs_per_leaf_ = kLeaf / inner_;
      parts_ = (outer_ + runs_per_leaf_ - 1) / runs_per_leaf_;
    }
  }

  static int64_t table_period(int64_t channels) { return channels; }

  int64_t units() const { return channels_; }
  int64_t parts() const { return parts_; }
  int64_t unit_bytes() const { return outer_ * inner_ * static_cast<int64_t>(sizeof(T)); }
  int64_t first_channel(int64_t unit) const { return unit; }
  int64_t end_channel(int64_t unit) const { return unit + 1; }
  // Whether pieces are long enough for non-temporal stores to fill whole cache lines.
  bool streams_well() const { return inner_ * static_cast<int64_t>(sizeof(T)) >= 512; }

  void moments(int64_t c, int64_t part, const void* x, const Partials& out) const {
    Leaf buffer;
    int64_t n = 0;
    const C* block = gather(x, c, part, buffer, n);
    const auto add_element = [](auto e, auto, auto& sum, auto&) { sum += e; };
    const C pivot = C(two_sums(block, block, n, add_element).first / static_cast<double>(n));
    const auto add_deviation = [pivot](auto e, auto, auto& sum, auto& squares) {
      const auto d = e - pivot;
      sum += d;
      squares += d * d;
    };
    const TwoSums sums = two_sums(block, block, n, add_deviation);
    const Moments m = moments_about(static_cast<double>(pivot), sums.first, sums.second, static_cast<double>(n));
    out.first[part * channels_ + c] = m.mean;
    out.second[part * channels_ + c] = m.m2;
  }

  double part_count(int64_t part) const {
    if (pieces_ > 0) return static_cast<double>(piece_length(part % pieces_));
    return static_cast<double>((last_run(part) - part * runs_per_leaf_) * inner_);
  }

  // sums of g and of g * centred, where recover(grad, x, channel) tells both.
  template <class Recover>
  void sums(int64_t c, int64_t part, const void* grad, const void* x, const ChannelTables<C>& tables,
            const Recover& recover, const Partials& out) const {
    Leaf grad_buffer;
    Leaf x_buffer;
    int64_t n = 0;
    const C* grad_block = gather(grad, c, part, grad_buffer, n);
    const C* x_block = gather(x, c, part, x_buffer, n);
    const Channel<C> channel = tables.at(c);
    const auto add = [&recover, channel](auto g, auto e, auto& first, auto& second) {
      const auto r = recover(g, e, channel);
      first += r.grad;
      second += r.grad * r.centred;
    };
    const TwoSums s = two_sums(grad_block, x_block, n, add);
    out.first[part * channels_ + c] = s.first;
    out.second[part * channels_ + c] = s.second;
  }

  // out = f(grad, x, channel), element by element; grad null: f(x, x, channel).
  template <class F>
  void map(int64_t c, int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables,
           bool streamed, const F& f) const {
    Buffer<C> grad_buffer;
    Buffer<C> x_buffer;
    Buffer<C> out_buffer;
    const Channel<C> channel = tables.at(c);
    segments(c, part, [&](int64_t begin, int64_t length) {
      for (int64_t i = 0; i < length; i += kBlock) {
        const int64_t n = length - i < kBlock ? length - i : kBlock;
        const C* e = load<T>(x, begin + i, n, x_buffer);
        const C* g = grad == nullptr ? e : load<T>(grad, begin + i, n, grad_buffer);
        C* o = begin_store<T>(out, begin + i, streamed, out_buffer);
#pragma GCC ivdep
        for (int64_t k = 0; k < n; ++k) o[k] = f(g[k], e[k], channel);
        end_store<T>(o, n, out, begin + i, streamed);
      }
    });
    if (streamed) end_streaming();
  }

  int64_t map_tasks() const { return channels_ * parts_; }
  template <class F>
  void map_task(int64_t task, const void* grad, const void* x, void* out, const ChannelTables<C>& tables, bool streamed,
                const F& f) const {
    map(task % channels_, task / channels_, grad, x, out, tables, streamed, f);
  }

 private:
  static constexpr int64_t kLeaf = 4096;
  struct alignas(64) Leaf {
    C data[kLeaf];
  };

  int64_t last_run(int64_t part) const {
    const int64_t end = (part + 1) * runs_per_leaf_;
    return end < outer_ ? end : outer_;
  }

  int64_t piece_length(int64_t piece) const {
    const int64_t left = inner_ - piece * piece_;
    return left < piece_ ? left : piece_;
  }

  // f(index of the first element, length) for each contiguous segment of a leaf.
  template <class F>
  FNN_INLINE void segments(int64_t c, int64_t part, const F& f) const {
    if (pieces_ > 0) {
      const int64_t run = part / pieces_;
      const int64_t piece = part % pieces_;
      f((run * channels_ + c) * inner_ + piece * piece_, piece_length(piece));
    } else {
      for (int64_t run = part * runs_per_leaf_; run < last_run(part); ++run) f((run * channels_ + c) * inner_, inner_);
    }
  }

  // A leaf's elements side by side: the memory itself where it is one aligned run of C.
  const C* gather(const void* base, int64_t c, int64_t part, Leaf& buffer, int64_t& n) const {
    n = static_cast<int64_t>(part_count(part));
    const bool one_run = pieces_ > 0 || runs_per_leaf_ == 1;
    const C* result = buffer.data;
    int64_t filled = 0;
    segments(c, part, [&](int64_t begin, int64_t length) {
      const char* p = element<T>(base, begin);
      if (one_run && direct<T, C>(p)) {
        result = reinterpret_cast<const C*>(p);
      } else {
        convert_in<T>(base, begin, length, buffer.data + filled);
        filled += length;
      }
    });
    return result;
  }

  int64_t outer_, channels_, inner_;
  int64_t pieces_ = 0;  // of a run, where a run is longer than a leaf; else 0
  int64_t piece_ = 0;
  int64_t runs_per_leaf_ = 0;
  int64_t parts_ = 0;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
