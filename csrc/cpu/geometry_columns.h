// inner == 1 (NHWC, NC): a channel is a column of a (rows, channels) matrix; vectors run across channels.
//
// A leaf is kTileRows rows of one column, summed in row order; a part is kPartRows rows, its leaves merged in row order.
// Units: strips of columns, as wide as the cache can hold, which no result depends on. Parts: kPartRows rows.
#pragma once

#include "cpu/channel_tables.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T>
class Columns {
 public:
  using Storage = T;
  using C = Compute<T>;

  explicit Columns(const BatchNorm& p)
      : rows_(p.outer),
        channels_(p.channels),
        parts_((p.outer + kPartRows - 1) / kPartRows),
        period_(table_period(p.channels)) {
    // Narrow strips only where that keeps them in cache: wide ones read memory in longer stretches.
    const int64_t fitting = cache_budget() / (rows_ * static_cast<int64_t>(sizeof(T)) + 1);
    strip_ = fitting >= kStrip || fitting < kNarrowest ? kStrip : fitting / kNarrowest * kNarrowest;
  }

  // Few channels: the tables are repeated, so that vectors span several rows.
  static int64_t table_period(int64_t channels) {
    return channels >= kNarrowest || channels == 0 ? channels : kNarrowest / channels * channels;
  }

  int64_t units() const { return (channels_ + strip_ - 1) / strip_; }
  int64_t parts() const { return parts_; }
  int64_t unit_bytes() const { return rows_ * width_of(0) * static_cast<int64_t>(sizeof(T)); }
  int64_t first_channel(int64_t unit) const { return unit * strip_; }
  int64_t end_channel(int64_t unit) const { return first_channel(unit) + width_of(unit); }
  // Whether memory is written in stretches that fill whole cache lines.
  bool streams_well() const { return true; }

  double part_count(int64_t part) const { return static_cast<double>(end_row(part) - part * kPartRows); }

  void moments(int64_t unit, int64_t part, const void* x, const Partials& out) const {
    const int64_t width = width_of(unit);
    Tile buffer;
    double mean[kStrip] = {};
    double m2[kStrip] = {};
    double count = 0.0;
    tiles(part, [&](int64_t row, int64_t rows) {
      const View view = tile(x, row, rows, unit, buffer);
      C pivot[kStrip] = {};
      C sum[kStrip] = {};
      C squares[kStrip] = {};
      for_rows(view, view, rows, width, pivot, squares, [](int64_t, C e, C, C& total, C&) { total += e; });
      for (int64_t c = 0; c < width; ++c) {
        pivot[c] /= C(rows);
        squares[c] = C(0);
      }
      for_rows(view, view, rows, width, sum, squares, [&pivot](int64_t c, C e, C, C& total, C& total_squares) {
        const C d = e - pivot[c];
        total += d;
        total_squares += d * d;
      });
      const auto n = static_cast<double>(rows);
      for (int64_t c = 0; c < width; ++c) {
        const Moments leaf = moments_about(static_cast<double>(pivot[c]), static_cast<double>(sum[c]),
                                           static_cast<double>(squares[c]), n);
        const Moments merged = merge(Moments{mean[c], m2[c], count}, leaf);
        mean[c] = merged.mean;
        m2[c] = merged.m2;
      }
      count += n;
    });
    put(out, unit, part, mean, m2);
  }

  template <class Recover>
  void sums(int64_t unit, int64_t part, const void* grad, const void* x, const ChannelTables<C>& tables,
            const Recover& recover, const Partials& out) const {
    const int64_t width = width_of(unit);
    const ChannelTables<C> strip = tables.from(first_channel(unit));
    Tile grad_buffer;
    Tile x_buffer;
    double first[kStrip] = {};
    double second[kStrip] = {};
    tiles(part, [&](int64_t row, int64_t rows) {
      const View grads = tile(grad, row, rows, unit, grad_buffer);
      const View elements = tile(x, row, rows, unit, x_buffer);
      C leaf_first[kStrip] = {};
      C leaf_second[kStrip] = {};
      for_rows(grads, elements, rows, width, leaf_first, leaf_second, [&](int64_t c, C g, C e, C& a, C& b) {
        const Recovered<C> r = recover(g, e, strip.at(c));
        a += r.grad;
        b += r.grad * r.centred;
      });
      for (int64_t c = 0; c < width; ++c) {
        first[c] += static_cast<double>(leaf_first[c]);
        second[c] += static_cast<double>(leaf_second[c]);
      }
    });
    put(out, unit, part, first, second);
  }

  // out = f(grad, x, channel) for a part of one strip, whose rows lie apart; grad null: f(x, x, channel).
  template <class F>
  void map(int64_t unit, int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables,
           bool streamed, const F& f) const {
    if (units() == 1) return map_rows(part, grad, x, out, tables, streamed, f);
    for (int64_t row = end_row(part) - 1; row >= part * kPartRows; --row) {
      const int64_t begin = row * channels_ + first_channel(unit);
      map_flat(begin, begin + width_of(unit), grad, x, out, tables, false, f);
    }
  }

  // The same for all channels, whose rows are one stretch of memory.
  int64_t map_tasks() const { return parts_; }
  template <class F>
  void map_task(int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables, bool streamed,
                const F& f) const {
    map_rows(part, grad, x, out, tables, streamed, f);
  }

 private:
  static constexpr int64_t kStrip = 256;
  static constexpr int64_t kNarrowest = 64;
  static constexpr int64_t kTileRows = 64;
  static constexpr int64_t kPartRows = 8 * kTileRows;

  struct alignas(64) Tile {
    C data[kTileRows * kStrip];
  };
  // Rows of a strip, `stride` elements apart.
  struct View {
    const C* data;
    int64_t stride;
  };

  int64_t width_of(int64_t unit) const {
    const int64_t left = channels_ - unit * strip_;
    return left < strip_ ? left : strip_;
  }

  int64_t end_row(int64_t part) const {
    const int64_t end = (part + 1) * kPartRows;
    return end < rows_ ? end : rows_;
  }

  // f(first row, rows) for each tile of a part.
  template <class F>
  FNN_INLINE void tiles(int64_t part, const F& f) const {
    for (int64_t row = part * kPartRows; row < end_row(part); row += kTileRows) {
      f(row, end_row(part) - row < kTileRows ? end_row(part) - row : kTileRows);
    }
  }

  View tile(const void* base, int64_t row, int64_t rows, int64_t unit, Tile& buffer) const {
    const int64_t begin = row * channels_ + first_channel(unit);
    const char* p = element<T>(base, begin);
    if (direct<T, C>(p)) return {reinterpret_cast<const C*>(p), channels_};
    for (int64_t r = 0; r < rows; ++r) {
      convert_in<T>(base, begin + r * channels_, width_of(unit), buffer.data + r * kStrip);
    }
    return {buffer.data, kStrip};
  }

  // add(c, a[row][c], b[row][c], first[c], second[c]) over all rows in order. One row at a time: several at once would
  // save loads of the accumulators, which L1 has to spare, but not read memory from front to back.
  template <class Add>
  static FNN_INLINE void for_rows(View a, View b, int64_t rows, int64_t width, C* __restrict first,
                                  C* __restrict second, const Add& add) {
    for (int64_t row = 0; row < rows; ++row) {
      const C* pa = a.data + row * a.stride;
      const C* pb = b.data + row * b.stride;
#pragma GCC ivdep
      for (int64_t c = 0; c < width; ++c) add(c, pa[c], pb[c], first[c], second[c]);
    }
  }

  void put(const Partials& out, int64_t unit, int64_t part, const double* first, const double* second) const {
    const int64_t at = part * channels_ + first_channel(unit);
    for (int64_t c = 0; c < width_of(unit); ++c) {
      out.first[at + c] = first[c];
      out.second[at + c] = second[c];
    }
  }

  template <class F>
  void map_rows(int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables, bool streamed,
                const F& f) const {
    map_flat(part * kPartRows * channels_, end_row(part) * channels_, grad, x, out, tables, streamed, f);
    if (streamed) end_streaming();
  }

  // Over elements [begin, end) as they lie in memory.
  template <class F>
  FNN_INLINE void map_flat(int64_t begin, int64_t end, const void* grad, const void* x, void* out,
                           const ChannelTables<C>& tables, bool streamed, const F& f) const {
    Buffer<C> grad_buffer;
    Buffer<C> x_buffer;
    Buffer<C> out_buffer;
    int64_t column = begin % period_;
    for (int64_t i = begin; i < end; i += kBlock) {
      const int64_t n = end - i < kBlock ? end - i : kBlock;
      const C* e = load<T>(x, i, n, x_buffer);
      const C* g = grad == nullptr ? e : load<T>(grad, i, n, grad_buffer);
      C* o = begin_store<T>(out, i, streamed, out_buffer);
      for (int64_t done = 0; done < n;) {
        const int64_t piece = period_ - column < n - done ? period_ - column : n - done;
        const ChannelTables<C> here = tables.from(column);
#pragma GCC ivdep
        for (int64_t k = 0; k < piece; ++k) o[done + k] = f(g[done + k], e[done + k], here.at(k));
        done += piece;
        column = column + piece == period_ ? 0 : column + piece;
      }
      end_store<T>(o, n, out, i, streamed);
    }
  }

  int64_t rows_, channels_, parts_, period_;
  int64_t strip_;  // columns of a strip, at most kStrip
};

}  // namespace FNN_UNIT
}  // namespace fusednn
