// inner == 1 (NHWC, NC): a channel is a column of a (rows, channels) matrix; vectors run across channels.
//
// A leaf is kTileRows rows of one column, summed in row order; a part is kTilesPerPart leaves, merged in row order.
// Units: strips of kStrip columns. Parts: kTilesPerPart * kTileRows rows.
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
      : rows_(p.outer), channels_(p.channels), parts_((p.outer + kPartRows - 1) / kPartRows) {}

  int64_t units() const { return (channels_ + kStrip - 1) / kStrip; }
  int64_t parts() const { return parts_; }
  int64_t unit_bytes() const { return rows_ * width_of(0) * static_cast<int64_t>(sizeof(T)); }
  int64_t first_channel(int64_t unit) const { return unit * kStrip; }
  int64_t end_channel(int64_t unit) const { return first_channel(unit) + width_of(unit); }
  bool streams_well() const { return channels_ * static_cast<int64_t>(sizeof(T)) % 64 == 0; }

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

  template <class F>
  void map(int64_t unit, int64_t part, const void* grad, const void* x, void* out, const ChannelTables<C>& tables,
           bool streamed, const F& f) const {
    Buffer<C> grad_buffer;
    Buffer<C> x_buffer;
    Buffer<C> out_buffer;
    const int64_t width = width_of(unit);
    const ChannelTables<C> strip = tables.from(first_channel(unit));
    for (int64_t row = end_row(part) - 1; row >= part * kPartRows; --row) {
      const int64_t begin = row * channels_ + first_channel(unit);
      const C* e = load<T>(x, begin, width, x_buffer);
      const C* g = grad == nullptr ? e : load<T>(grad, begin, width, grad_buffer);
      C* o = begin_store<T>(out, begin, streamed, out_buffer);
#pragma GCC ivdep
      for (int64_t c = 0; c < width; ++c) o[c] = f(g[c], e[c], strip.at(c));
      end_store<T>(o, width, out, begin, streamed);
    }
    if (streamed) end_streaming();
  }

 private:
  static constexpr int64_t kStrip = 128;
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
    const int64_t left = channels_ - unit * kStrip;
    return left < kStrip ? left : kStrip;
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

  // add(c, a[row][c], b[row][c], first[c], second[c]) over all rows in order. Four rows a turn, so that the
  // accumulators are loaded and stored once for four additions.
  template <class Add>
  static FNN_INLINE void for_rows(View a, View b, int64_t rows, int64_t width, C* __restrict first,
                                  C* __restrict second, const Add& add) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
      const C* pa = a.data + row * a.stride;
      const C* pb = b.data + row * b.stride;
#pragma GCC ivdep
      for (int64_t c = 0; c < width; ++c) {
        C one = first[c];
        C two = second[c];
        add(c, pa[c], pb[c], one, two);
        add(c, pa[c + a.stride], pb[c + b.stride], one, two);
        add(c, pa[c + 2 * a.stride], pb[c + 2 * b.stride], one, two);
        add(c, pa[c + 3 * a.stride], pb[c + 3 * b.stride], one, two);
        first[c] = one;
        second[c] = two;
      }
    }
    for (; row < rows; ++row) {
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

  int64_t rows_, channels_, parts_;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
