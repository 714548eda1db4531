// BatchNorm's passes over either geometry. Memory moved, in arrays: forward 1R + 1W where what the first pass read stays in
// cache for the second, which is a unit of channels (inner > 1) or the whole array (inner == 1); else 2R + 1W with the
// second pass backwards. Backward 2R + 1W, else 4R + 1W.
//
// Where a unit is long stretches of memory and the output is too large for a cache, a unit is mapped in the same loop
// that reduces the thread's next one: reading and writing in turns wait for each other.
//
// Reductions: leaves of fixed size, merged in index order, whoever computed them.
#pragma once

#include "cpu/channel_finish.h"
#include "cpu/geometry_columns.h"
#include "cpu/geometry_runs.h"
#include "cpu/parallel.h"
#include "cpu/strips.h"

namespace fusednn {
inline namespace FNN_UNIT {

inline int64_t elements_of(const BatchNorm& p) { return p.outer * p.channels * p.inner; }
inline double per_channel(const BatchNorm& p) { return static_cast<double>(p.outer * p.inner); }

template <class Geometry>
inline bool streamed(const Geometry& geometry, const BatchNorm& p, const void* out) {
  return worth_streaming<typename Geometry::Storage>(out, geometry.elements()) && geometry.streams_well() &&
         out != p.x && out != p.grad && out != p.y_in;
}

// out = formula(grad, x, channel), in the portions that the passes below ask for.
template <class Geometry, class F>
struct Mapping {
  const Geometry& geometry;
  const void* grad;
  const void* x;
  void* out;
  const ChannelTables<typename Geometry::C>& tables;
  bool streamed;
  F formula;

  void part(int64_t unit, int64_t part) const { geometry.map(unit, part, grad, x, out, tables, streamed, formula); }
  template <class Reduce>
  void part_beside(int64_t unit, int64_t part, const Reduce& reduce) const {
    geometry.map_beside(unit, part, grad, x, out, tables, formula, reduce);
  }
  int64_t tasks() const { return geometry.map_tasks(); }
  void task(int64_t i) const { geometry.map_task(i, grad, x, out, tables, streamed, formula); }
  // After the last part or task of a thread.
  void end() const {
    if (streamed) end_streaming();
  }
};

// Mappings that are compiled beside reductions, too: those of most trainings. The others are rarer, or write where they
// read, and each would be some kilobytes.
template <class T>
constexpr bool kOftenTrained = kVectorBytes > 16 && sizeof(T) <= sizeof(float);
template <>
constexpr bool kOftenTrained<Float16> = false;
template <class Map>
constexpr bool kBesideReduction = false;
template <class T>
constexpr bool kBesideReduction<Mapping<Runs<T>, Normalize<Compute<T>>>> = kOftenTrained<T>;
template <class T>
constexpr bool kBesideReduction<Mapping<Runs<T>, GradInput<Compute<T>, FromInput>>> = kOftenTrained<T>;

struct NoMapping {
  void part(int64_t, int64_t) const {}
  int64_t tasks() const { return 0; }
  void task(int64_t) const {}
  void end() const {}
};

// reduce(unit, part) for all, neighbouring parts by one thread.
template <class Geometry, class Reduce>
inline void reduce_all(const Geometry& geometry, bool worth_threads, const Reduce& reduce) {
  constexpr int64_t kParts = Geometry::kPartsPerTask;
  const int64_t units = geometry.units();
  const int64_t parts = geometry.parts();
  parallel(worth_threads, units * ((parts + kParts - 1) / kParts), [&](int64_t i) {
    const int64_t begin = i / units * kParts;
    for (int64_t part = begin; part < begin + kParts && part < parts; ++part) reduce(i % units, part);
  });
}

// A first pass that reduces, what follows from its sums, and a second pass that maps.
//   reduce(unit, part), finish(unit) when all parts of a unit are reduced, complete() when all units are finished
template <class Geometry, class Reduce, class Finish, class Complete, class Map>
struct TwoPasses {
  const Geometry& geometry;
  bool worth_threads;
  Reduce reduce;
  Finish finish;
  Complete complete;
  Map mapping;

  void run() const {
    if constexpr (Geometry::kUnitByUnit) {
      const int64_t units = geometry.units();
      const int64_t threads = worth_threads ? threads_of_call() : 1;
      const bool balanced = units % threads == 0 || units >= 4 * threads;
      if constexpr (kBesideReduction<Map>) {
        if (balanced && mapping.streamed && geometry.leaves_are_stretches() &&
            2 * geometry.unit_bytes() * threads <= shared_cache())
          return unit_beside_unit(threads);
      }
      if (balanced && geometry.unit_bytes() * threads <= shared_cache()) return unit_by_unit();
    }
    pass_by_pass();
  }

 private:
  // A unit stays in cache between its passes.
  void unit_by_unit() const {
    parallel(worth_threads, geometry.units(), [&](int64_t unit) {
      for (int64_t part = 0; part < geometry.parts(); ++part) reduce(unit, part);
      finish(unit);
      for (int64_t part = geometry.parts() - 1; part >= 0; --part) mapping.part(unit, part);
      mapping.end();
    });
  }

  // The same, and a thread maps a unit while it reduces its next one. In the order of reading, so that what waits to be
  // mapped is one unit's worth at any time.
  void unit_beside_unit(int64_t threads) const {
    const int64_t units = geometry.units();
    const int64_t parts = geometry.parts();
    int64_t taken = 0;
    const auto take = [&taken] { return __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED); };
    parallel(worth_threads, threads, [&](int64_t) {
      int64_t unit = take();
      if (unit >= units) return;
      for (int64_t part = 0; part < parts; ++part) reduce(unit, part);
      finish(unit);
      for (int64_t next = take(); next < units; next = take()) {
        for (int64_t part = 0; part < parts; ++part) {
          mapping.part_beside(unit, part,
                              [&](auto& beside) __attribute__((always_inline)) { reduce(next, part, beside); });
        }
        finish(next);
        unit = next;
      }
      for (int64_t part = 0; part < parts; ++part) mapping.part(unit, part);
      mapping.end();
    });
  }

  // Nothing stays: backwards, what was read last may still be in cache.
  void pass_by_pass() const {
    const int64_t units = geometry.units();
    reduce_all(geometry, worth_threads, reduce);
    parallel(worth_threads, units, finish);
    complete();
    const int64_t last = mapping.tasks() - 1;
    parallel(worth_threads, mapping.tasks(), [&](int64_t i) {
      mapping.task(last - i);
      mapping.end();
    });
  }
};

template <class Geometry, class Reduce, class Finish, class Complete, class Map>
inline void two_passes(const Geometry& geometry, bool worth_threads, const Reduce& reduce, const Finish& finish,
                       const Complete& complete, const Map& mapping) {
  TwoPasses<Geometry, Reduce, Finish, Complete, Map>{geometry, worth_threads, reduce, finish, complete, mapping}.run();
}

template <class Map>
inline void one_pass(bool worth, const Map& mapping) {
  parallel(worth, mapping.tasks(), [&](int64_t i) {
    mapping.task(i);
    mapping.end();
  });
}

template <class Geometry>
inline Scratch<typename Geometry::C> scratch_for(const BatchNorm& p, int64_t parts) {
  return allocate_scratch<typename Geometry::C>(p.channels, Geometry::table_length(p.channels), parts);
}

// After the tables of all channels are filled.
template <class Geometry>
inline void complete_tables(const BatchNorm& p, const ChannelTables<typename Geometry::C>& tables) {
  repeat_tables(tables, p.channels, Geometry::table_length(p.channels));
}

// Tables of all channels for given statistics, and what f(c, n) makes of them for n channels from c on.
template <class C, class F>
inline void prepare_tables(const BatchNorm& p, const ChannelTables<C>& tables, const F& f) {
  constexpr int64_t kTask = 32 * kChannelBlock;
  parallel(p.channels >= kWorthThreads / 16, (p.channels + kTask - 1) / kTask, [&](int64_t task) {
    const int64_t end = (task + 1) * kTask < p.channels ? (task + 1) * kTask : p.channels;
    for_channel_blocks(task * kTask, end, [&](int64_t c, int64_t n) {
      fill_tables(p, tables, c, n);
      f(c, n);
    });
  });
}

template <class C>
FNN_ONE_COPY void prepare_tables(const BatchNorm& p, const ChannelTables<C>& tables) {
  prepare_tables(p, tables, [](int64_t, int64_t) {});
}

// From partial moments to the results and tables of n channels from c on.
template <class Geometry, class C>
FNN_ONE_COPY void finish_moments(const Geometry& geometry, const BatchNorm& p, const Scratch<C>& s, int64_t c,
                                 int64_t n) {
  ChannelNumbers mean;
  ChannelNumbers m2;
  const double count = fold_moments(geometry, p, s.partials, c, n, mean, m2);
  ChannelNumbers inv_std = m2;
  if (count > 0.0) divide(inv_std, n, count);
  inverse_stds(inv_std, n, p.eps);
  fill_affine(p, s.tables, c, n, mean, inv_std);
  store_numbers<C>(mean, c, n, p.mean);
  store_numbers<C>(inv_std, c, n, p.inv_std);
  if (p.running_mean == nullptr || count == 0.0) return;
  divide(m2, n, p.unbiased_running_var ? count - 1.0 : count);
  update_running<C>(mean, c, n, p.momentum, p.running_mean);
  update_running<C>(m2, c, n, p.momentum, p.running_var);
}

template <class Geometry>
bool forward(const BatchNorm& p) {
  using C = typename Geometry::C;
  const Geometry geometry(p, 1);
  const Scratch<C> s = scratch_for<Geometry>(p, geometry.parts());
  if (!s.allocated) return false;
  const Normalize<C> formula{C(p.negative_slope)};
  const Mapping<Geometry, Normalize<C>> mapping{geometry, p.x, p.x, p.y, s.tables, streamed(geometry, p, p.y), formula};
  two_passes(
      geometry, elements_of(p) >= kWorthThreads,
      [&](int64_t unit, int64_t part, auto&... beside)
          __attribute__((always_inline)) { geometry.moments(unit, part, p.x, s.partials, beside...); },
      [&](int64_t unit) {
        for_channel_blocks(geometry.first_channel(unit), geometry.end_channel(unit),
                           [&](int64_t c, int64_t n) { finish_moments(geometry, p, s, c, n); });
      },
      [&] { complete_tables<Geometry>(p, s.tables); }, mapping);
  return true;
}

template <class Geometry>
bool statistics(const BatchNorm& p) {
  using C = typename Geometry::C;
  const Geometry geometry(p, 1);
  const Scratch<C> s = scratch_for<Geometry>(p, geometry.parts());
  if (!s.allocated) return false;
  reduce_all(geometry, elements_of(p) >= kWorthThreads,
             [&](int64_t unit, int64_t part) { geometry.moments(unit, part, p.x, s.partials); });
  parallel(elements_of(p) >= kWorthThreads, geometry.units(), [&](int64_t unit) {
    for_channel_blocks(geometry.first_channel(unit), geometry.end_channel(unit), [&](int64_t c, int64_t n) {
      ChannelNumbers mean;
      ChannelNumbers m2;
      fold_moments(geometry, p, s.partials, c, n, mean, m2);
      store_numbers<C>(mean, c, n, p.mean);
      store_numbers<C>(m2, c, n, p.m2);
    });
  });
  return true;
}

// y from given statistics: batch_norm_apply and batch_norm_inference.
template <class Geometry>
bool apply(const BatchNorm& p) {
  using C = typename Geometry::C;
  const Geometry geometry(p, 1);
  const Scratch<C> s = scratch_for<Geometry>(p, 0);
  if (!s.allocated) return false;
  prepare_tables(p, s.tables);
  complete_tables<Geometry>(p, s.tables);
  const Normalize<C> formula{C(p.negative_slope)};
  one_pass(elements_of(p) >= kWorthThreads,
           Mapping<Geometry, Normalize<C>>{geometry, p.x, p.x, p.y, s.tables, streamed(geometry, p, p.y), formula});
  return true;
}

// What turns centred values into xhat, and so sum(g * centred) into sum(g * xhat), for n channels from c on.
template <class C, class From>
struct XhatPerCentred;
template <class C>
struct XhatPerCentred<C, FromInput> {
  static void of(const BatchNorm& p, int64_t c, int64_t n, ChannelNumbers& to) { load_inv_std<C>(p, c, n, to); }
};
template <class C>
struct XhatPerCentred<C, FromOutput> {
  static void of(const BatchNorm& p, int64_t c, int64_t n, ChannelNumbers& to) {
    load_numbers<C>(p.gamma, c, n, 1.0, to);
    for (int64_t i = 0; i < n; ++i) to.data[i] = 1.0 / to.data[i];
  }
};

// From partial sums to the results and tables of n channels from c on.
template <class From, class Geometry, class C>
FNN_ONE_COPY void finish_sums(const Geometry& geometry, const BatchNorm& p, const Scratch<C>& s, int64_t c, int64_t n) {
  ChannelNumbers sum_grad;
  ChannelNumbers sum_grad_xhat;
  ChannelNumbers xhat_per_centred;
  fold_sums(geometry.parts(), p.channels, s.partials.first + c, n, sum_grad);
  fold_sums(geometry.parts(), p.channels, s.partials.second + c, n, sum_grad_xhat);
  XhatPerCentred<C, From>::of(p, c, n, xhat_per_centred);
  for (int64_t i = 0; i < n; ++i) sum_grad_xhat.data[i] *= xhat_per_centred.data[i];
  store_numbers<C>(sum_grad, c, n, p.sum_grad);
  store_numbers<C>(sum_grad_xhat, c, n, p.sum_grad_xhat);
  fill_sums(s.tables, c, n, sum_grad, sum_grad_xhat, xhat_per_centred, per_channel(p));
}

// Reduces to sum_grad and sum_grad_xhat, then maps with map_with(geometry, tables).
template <class Geometry, class From, class MapWith>
bool backward(const BatchNorm& p, const MapWith& map_with) {
  using C = typename Geometry::C;
  const Geometry geometry(p, 2);
  const Scratch<C> s = scratch_for<Geometry>(p, geometry.parts());
  if (!s.allocated) return false;
  prepare_tables(p, s.tables);
  const void* input = p.y_in != nullptr ? p.y_in : p.x;
  const Recover<C, From> recover{slope_of<C>(p.negative_slope)};
  two_passes(
      geometry, elements_of(p) >= kWorthThreads,
      [&](int64_t unit, int64_t part, auto&... beside) __attribute__((always_inline)) {
        geometry.sums(unit, part, p.grad, input, s.tables, recover, s.partials, beside...);
      },
      [&](int64_t unit) {
        for_channel_blocks(geometry.first_channel(unit), geometry.end_channel(unit),
                           [&](int64_t c, int64_t n) { finish_sums<From>(geometry, p, s, c, n); });
      },
      [&] { complete_tables<Geometry>(p, s.tables); }, map_with(geometry, s.tables));
  return true;
}

// The mapping to grad_x by a formula.
template <class Geometry, class F>
inline Mapping<Geometry, F> to_grad_x(const Geometry& geometry, const BatchNorm& p,
                                      const ChannelTables<typename Geometry::C>& tables, const F& formula) {
  const void* input = p.y_in != nullptr ? p.y_in : p.x;
  return {geometry, p.grad, input, p.grad_x, tables, streamed(geometry, p, p.grad_x), formula};
}

template <class Geometry, class From>
bool backward_with_grad_x(const BatchNorm& p) {
  using C = typename Geometry::C;
  const GradInput<C, From> formula{{slope_of<C>(p.negative_slope)}};
  return backward<Geometry, From>(
      p, [&](const Geometry& geometry, const auto& tables) { return to_grad_x(geometry, p, tables, formula); });
}

template <class Geometry>
bool inference_backward(const BatchNorm& p) {
  using C = typename Geometry::C;
  const FrozenGradInput<C> formula{{slope_of<C>(p.negative_slope)}};
  return backward<Geometry, FromInput>(
      p, [&](const Geometry& geometry, const auto& tables) { return to_grad_x(geometry, p, tables, formula); });
}

template <class Geometry>
bool backward_reduce(const BatchNorm& p) {
  return backward<Geometry, FromInput>(p, [](const Geometry&, const auto&) { return NoMapping{}; });
}

// grad_x from sums over all parts, which other processes may have added to.
template <class Geometry>
bool backward_apply(const BatchNorm& p) {
  using C = typename Geometry::C;
  const Geometry geometry(p, 2);
  const Scratch<C> s = scratch_for<Geometry>(p, 0);
  if (!s.allocated) return false;
  prepare_tables(p, s.tables, [&](int64_t c, int64_t n) {
    ChannelNumbers inv_std;
    ChannelNumbers sum_grad;
    ChannelNumbers sum_grad_xhat;
    load_numbers<C>(p.inv_std, c, n, 0.0, inv_std);
    load_numbers<C>(p.sum_grad, c, n, 0.0, sum_grad);
    load_numbers<C>(p.sum_grad_xhat, c, n, 0.0, sum_grad_xhat);
    fill_sums(s.tables, c, n, sum_grad, sum_grad_xhat, inv_std, p.count);
  });
  complete_tables<Geometry>(p, s.tables);
  const GradInput<C, FromInput> formula{{slope_of<C>(p.negative_slope)}};
  one_pass(elements_of(p) >= kWorthThreads, to_grad_x(geometry, p, s.tables, formula));
  return true;
}

template <class Geometry>
struct GeometryTag {
  using type = Geometry;
};

// run(GeometryTag<...>, problem) for the problem's geometry and storage type: for all of it, or strip by strip.
template <class Run>
inline bool with_geometry(const BatchNorm& p, const Run& run) {
  return with_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    if (p.inner != 1) return run(GeometryTag<Runs<T>>{}, p);
    const auto run_columns = [&run](const BatchNorm& columns) { return run(GeometryTag<Columns<T>>{}, columns); };
    return worth_strips(p) ? in_strips<T>(p, run_columns) : run_columns(p);
  });
}

}  // namespace FNN_UNIT
}  // namespace fusednn
