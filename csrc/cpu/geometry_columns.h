// inner == 1 (NHWC, NC): a channel is a column of a (rows, channels) matrix; vectors run across channels.
//
// A leaf is kLeafRows rows of one column, summed in row order; a part is some hundred rows, its leaves merged in row
// order. Both depend on the shape alone. Units: strips of columns, which no result depends on: whole rows, as long as
// their sums fit an L1 cache and there are units for all threads. Parts of rows are slower to read.
#pragma once

#include "cpu/channel_tables.h"
#include "cpu/element_wise.h"
#include "cpu/thread_pool.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Rows of a leaf, rows up to which there is one part, and the least channels of a unit, where there are more.
constexpr int64_t kLeafRows = 64;
constexpr int64_t kOnePartRows = kLeafRows;
constexpr int64_t kColumnStrip = 256;

template <class T>
class Columns {
 public:
  using Storage = T;
  using C = Compute<T>;

  // A strip is a short stretch of every row: rows are read faster whole, as they lie.
  static constexpr bool kUnitByUnit = false;
  static constexpr int64_t kPartsPerTask = 1;

  Columns(const BatchNorm& p, int /*arrays*/)
      : rows_(p.outer), channels_(p.channels), stride_(p.row_stride), period_(period_of(p.channels)) {
    const int64_t leaves = (rows_ + kLeafRows - 1) / kLeafRows;
    // Few leaves: enough parts for several threads. Many: parts that are worth their overhead, and not too many.
    const int64_t few = (leaves + 15) / 16 < 8 ? (leaves + 15) / 16 : 8;
    const int64_t many = (leaves + kMostParts - 1) / kMostParts;
    part_rows_ = (many > few ? many : few) * kLeafRows;
    parts_ = rows_ > 0 ? (rows_ + part_rows_ - 1) / part_rows_ : 0;
    const int64_t wanted = kUnitsPerThread * threads_of_call();
    while (strip_ > kColumnStrip && units() * parts_ < wanted) strip_ /= 2;
    const int64_t share = rows_ * channels_ / (4 * wanted) / kLeastMapTask * kLeastMapTask;
    map_task_ = share > kMostMapTask ? kMostMapTask : share > kLeastMapTask ? share : kLeastMapTask;
  }

  // Few channels: the tables are repeated, so that vectors span several rows. Beyond that by one vector more, for those
  // that begin in one row and end in the next.
  static int64_t period_of(int64_t channels) {
    return channels >= kPeriod ? channels : channels == 0 ? 1 : kPeriod / channels * channels;
  }
  static int64_t table_length(int64_t channels) { return period_of(channels) + kPerVector<C>; }

  int64_t units() const { return (channels_ + strip_ - 1) / strip_; }
  int64_t parts() const { return parts_; }
  int64_t first_channel(int64_t unit) const { return unit * strip_; }
  int64_t end_channel(int64_t unit) const { return first_channel(unit) + width_of(unit); }
  bool streams_well() const { return true; }
  // Of the arrays, of which this may be some columns.
  int64_t elements() const { return rows_ * stride_; }

  double part_count(int64_t part) const { return static_cast<double>(end_row(part) - part * part_rows_); }

  FNN_ONE_COPY void moments(int64_t unit, int64_t part, const void* x, const Partials& out) const {
    // About the mean of the part's first rows: one pass, as in geometry_runs.h.
    const int64_t width = width_of(unit);
    C pivot[kStrip];
    const auto of_sum = [x](int64_t, auto) {
      return [x](int64_t i, auto& total, auto&) { total += load_like<T>(x, i, total); };
    };
    C unused[kStrip];
    const int64_t begin = part * part_rows_;
    const int64_t wanted = part_rows_ / kRowsPerPivotRow;
    const int64_t pivot_rows = end_row(part) - begin < wanted ? end_row(part) - begin : wanted;
    add_rows(unit, begin, pivot_rows, x, x, pivot, unused, of_sum);
    for (int64_t c = 0; c < width; ++c) pivot[c] /= C(pivot_rows);
    double sum[kStrip];
    double squares[kStrip];
    add_part(unit, part, x, x, sum, squares, [x, &pivot](int64_t c, auto v) {
      const auto centre = read<decltype(v)>(pivot + c);
      return [x, centre](int64_t i, auto& total, auto& total_squares) {
        const auto d = load_like<T>(x, i, total) - centre;
        total += d;
        total_squares += d * d;
      };
    });
    for (int64_t c = 0; c < width; ++c) {
      const Moments m = moments_about(static_cast<double>(pivot[c]), sum[c], squares[c], part_count(part));
      sum[c] = m.mean;
      squares[c] = m.m2;
    }
    put(out, unit, part, sum, squares);
  }

  // sums of g and of g * centred, where recover(grad, x, channel) tells both.
  template <class Recover>
  FNN_ONE_COPY void sums(int64_t unit, int64_t part, const void* grad, const void* x, const ChannelTables<C>& tables,
                         const Recover& recover, const Partials& out) const {
    const ChannelTables<C> strip = tables.from(first_channel(unit));
    double first[kStrip];
    double second[kStrip];
    // The table is read again for every row, which the compiler then does once: a copy of it would go through memory.
    add_part(unit, part, grad, x, first, second, [&](int64_t c, auto v) {
      return [&, c](int64_t i, auto& a, auto& b) {
        const auto channel = strip.template vector<decltype(v)>(c);
        const auto r = recover(load_like<T>(grad, i, a), load_like<T>(x, i, a), channel);
        a += r.grad;
        b += r.grad * r.centred;
      };
    });
    put(out, unit, part, first, second);
  }

  // out = f(grad, x, channel) in the order of memory. Cut by elements: there may be few rows, and long ones. By rows where
  // they lie apart.
  int64_t map_tasks() const {
    return stride_ == channels_ ? (rows_ * channels_ + map_task_ - 1) / map_task_ : channels_ > 0 ? rows_ : 0;
  }
  template <class F>
  void map_task(int64_t task, const void* grad, const void* x, void* out, const ChannelTables<C>& tables, bool streamed,
                const F& f) const {
    const bool apart = stride_ != channels_;
    const int64_t begin = task * (apart ? stride_ : map_task_);
    const int64_t all = apart ? begin + channels_ : rows_ * channels_;
    const int64_t end = apart || begin + map_task_ > all ? all : begin + map_task_;
    const Cursor<F> cursor{grad, x, tables, begin, apart ? 0 : begin % period_, period_, f};
    put_elements<T>(out, begin, end, streamed, cursor);
  }

 private:
  // The most channels of a unit.
  static constexpr int64_t kStrip = (int64_t{1} << 12) / static_cast<int64_t>(sizeof(C));
  static constexpr int64_t kUnitsPerThread = 4;
  static constexpr int64_t kPeriod = 64;
  static constexpr int64_t kTogether = 2;
  static constexpr int64_t kRowsPerPivotRow = 8;
  static constexpr int64_t kMostParts = 128;
  // Elements: the second pass is fastest in long stretches, as long as there are some for each thread.
  static constexpr int64_t kLeastMapTask = 1 << 15;
  static constexpr int64_t kMostMapTask = 1 << 18;

  int64_t width_of(int64_t unit) const {
    const int64_t left = channels_ - unit * strip_;
    return left < strip_ ? left : strip_;
  }

  int64_t end_row(int64_t part) const {
    const int64_t end = (part + 1) * part_rows_;
    return end < rows_ ? end : rows_;
  }

  // Two sums over a part: those of its leaves, in order.
  template <class Of>
  FNN_INLINE void add_part(int64_t unit, int64_t part, const void* x, const void* z, double* first, double* second,
                           const Of& of) const {
    C leaf_first[kStrip];
    C leaf_second[kStrip];
    const int64_t width = width_of(unit);
    set_zero(first, width);
    set_zero(second, width);
    for (int64_t row = part * part_rows_; row < end_row(part); row += kLeafRows) {
      const int64_t rows = end_row(part) - row < kLeafRows ? end_row(part) - row : kLeafRows;
      add_rows(unit, row, rows, x, z, leaf_first, leaf_second, of);
      for (int64_t c = 0; c < width; ++c) {
        first[c] += static_cast<double>(leaf_first[c]);
        second[c] += static_cast<double>(leaf_second[c]);
      }
    }
  }

  // Two sums over rows [begin, begin + rows) of a strip's columns of x and z, row by row, into first[] and second[].
  // of(c, V{}) gives what adds to two sums of V, a vector of columns from c on or a single one, what the elements from an
  // index on contribute. Two rows at a time, so that the sums are loaded and stored half as often; four are read slower.
  template <class Of>
  FNN_INLINE void add_rows(int64_t unit, int64_t begin, int64_t rows, const void* x, const void* z, C* first, C* second,
                           const Of& of) const {
    constexpr int64_t kStep = kPerVector<C>;
    const int64_t width = width_of(unit);
    const int64_t whole = width / kStep * kStep;
    const int64_t at = begin * stride_ + first_channel(unit);
    set_zero(first, width);
    set_zero(second, width);
    const bool whole_rows = width == stride_;
    int64_t row = 0;
    for (; row + kTogether <= rows; row += kTogether) {
      const int64_t rows_at = at + row * stride_;
      for (int64_t c = 0; c < whole; c += kStep) {
        fetch_next(x, rows_at, c, whole_rows);
        if (z != x) fetch_next(z, rows_at, c, whole_rows);
        add_group<kTogether>(rows_at, c, first, second, of);
      }
    }
    for (; row < rows; ++row) {
      for (int64_t c = 0; c < whole; c += kStep) add_group<1>(at + row * stride_, c, first, second, of);
    }
    if (whole == width) return;
    if (width >= kStep) {
      // A vector that overlaps the one before: it computes the same sums again.
      add_column<Vector<C>>(at, rows, width - kStep, first, second, of);
    } else {
      for (int64_t c = 0; c < width; ++c) add_column<C>(at, rows, c, first, second, of);
    }
  }

  template <class N>
  static FNN_INLINE void set_zero(N* numbers, int64_t n) {
    __builtin_memset(numbers, 0, static_cast<size_t>(n) * sizeof(N));
  }

  // As much as vectors from c on are read of the rows that begin at an index: 8 KiB ahead in the order of memory where rows
  // are read whole, else of the next rows. The machine alone does not follow several rows: from memory this halves the time.
  FNN_INLINE void fetch_next(const void* base, int64_t index, int64_t c, bool whole_rows) const {
    constexpr int64_t kAhead = 8192;
    if (whole_rows) {
#pragma GCC unroll 2
      for (int64_t k = 0; k < kTogether; ++k) {
        __builtin_prefetch(element<char>(element<T>(base, index + kTogether * c + k * kPerVector<C>), kAhead));
      }
    } else {
#pragma GCC unroll 2
      for (int64_t k = 0; k < kTogether; ++k) {
        __builtin_prefetch(element<T>(base, index + c + (kTogether + k) * stride_));
      }
    }
  }

  template <int64_t kRows, class Of>
  FNN_INLINE void add_group(int64_t at, int64_t c, C* first, C* second, const Of& of) const {
    using V = Vector<C>;
    const auto add = of(c, V{});
    V a = read<V>(first + c);
    V b = read<V>(second + c);
#pragma GCC unroll 2
    for (int64_t r = 0; r < kRows; ++r) add(at + r * stride_ + c, a, b);
    __builtin_memcpy(first + c, &a, sizeof a);
    __builtin_memcpy(second + c, &b, sizeof b);
  }

  template <class V, class Of>
  FNN_INLINE void add_column(int64_t at, int64_t rows, int64_t c, C* first, C* second, const Of& of) const {
    const auto add = of(c, V{});
    V a{};
    V b{};
    for (int64_t r = 0; r < rows; ++r) add(at + r * stride_ + c, a, b);
    __builtin_memcpy(first + c, &a, sizeof a);
    __builtin_memcpy(second + c, &b, sizeof b);
  }

  void put(const Partials& out, int64_t unit, int64_t part, const double* first, const double* second) const {
    const int64_t at = part * channels_ + first_channel(unit);
    for (int64_t c = 0; c < width_of(unit); ++c) {
      out.first[at + c] = first[c];
      out.second[at + c] = second[c];
    }
  }

  // f(grad, x, channel) of elements in the order of memory; `column` follows them through the tables.
  template <class F>
  struct Cursor {
    static constexpr bool kFetches = true;
    const void* grad;
    const void* x;
    const ChannelTables<C>& tables;
    int64_t begin, column, period;
    const F& f;

    FNN_INLINE Vector<C> vector(int64_t i) {
      const Vector<C> v = vector_at(i, column);
      advance(kPerVector<C>);
      return v;
    }
    FNN_INLINE Vector<C> vector_ahead(int64_t i) const { return vector_at(i, (column + i - begin) % period); }
    FNN_INLINE C scalar(int64_t i) {
      const C value = f(load_scalar<T>(grad, i), load_scalar<T>(x, i), tables.at(column));
      advance(1);
      return value;
    }
    FNN_INLINE Vector<C> vector_at(int64_t i, int64_t at) const {
      return f(load<T>(grad, i), load<T>(x, i), tables.template vector<Vector<C>>(at));
    }
    FNN_INLINE void advance(int64_t n) {
      column += n;
      column = column >= period ? column - period : column;
    }
  };

  int64_t rows_, channels_, stride_, period_;
  int64_t strip_ = kStrip;  // channels of a unit
  int64_t part_rows_, parts_;
  int64_t map_task_;  // elements
};

}  // namespace FNN_UNIT
}  // namespace fusednn
