// Between BatchNorm's passes: partial sums of some channels into their statistics, tables and results.
//
// A block of channels at a time, each step a loop over the block that vectorises: with few elements per channel this
// takes as long as the passes. The order of every sum is that of the parts, for one channel as for many.
#pragma once

#include "cpu/channel_tables.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int64_t kChannelBlock = 128;

// Numbers of the channels of a block.
struct alignas(64) ChannelNumbers {
  double data[kChannelBlock];
};

// f(first channel, how many) for blocks of [begin, end).
template <class F>
FNN_INLINE void for_channel_blocks(int64_t begin, int64_t end, const F& f) {
  for (int64_t c = begin; c < end; c += kChannelBlock) f(c, end - c < kChannelBlock ? end - c : kChannelBlock);
}

// Means and sums of squared deviations of channels c ... c + n - 1. Returns the elements of each.
template <class Geometry>
inline double fold_moments(const Geometry& geometry, const BatchNorm& p, const Partials& partials, int64_t c, int64_t n,
                           ChannelNumbers& mean, ChannelNumbers& m2) {
  double count = 0.0;
  for (int64_t i = 0; i < n; ++i) mean.data[i] = m2.data[i] = 0.0;
  for (int64_t part = 0; part < geometry.parts(); ++part) {
    const double* means = partials.first + part * p.channels + c;
    const double* m2s = partials.second + part * p.channels + c;
    const double more = geometry.part_count(part);
    for (int64_t i = 0; i < n; ++i) {
      const Moments m = merge(Moments{mean.data[i], m2.data[i], count}, Moments{means[i], m2s[i], more});
      mean.data[i] = m.mean;
      m2.data[i] = m.m2;
    }
    count += more;
  }
  return count;
}

template <class Geometry>
inline void fold_sums(const Geometry& geometry, const BatchNorm& p, const Partials& partials, int64_t c, int64_t n,
                      ChannelNumbers& first, ChannelNumbers& second) {
  for (int64_t i = 0; i < n; ++i) first.data[i] = second.data[i] = 0.0;
  for (int64_t part = 0; part < geometry.parts(); ++part) {
    const double* firsts = partials.first + part * p.channels + c;
    const double* seconds = partials.second + part * p.channels + c;
    for (int64_t i = 0; i < n; ++i) {
      first.data[i] += firsts[i];
      second.data[i] += seconds[i];
    }
  }
}

// Per-channel arrays of C, which may be misaligned, to and from numbers. `array` null: `otherwise`.
template <class C>
inline void load_numbers(const void* array, int64_t c, int64_t n, double otherwise, ChannelNumbers& to) {
  if (array == nullptr) {
    for (int64_t i = 0; i < n; ++i) to.data[i] = otherwise;
    return;
  }
  for (int64_t i = 0; i < n; ++i) to.data[i] = static_cast<double>(scalar_at<C>(array, c + i));
}

template <class C>
inline void store_numbers(const ChannelNumbers& from, int64_t c, int64_t n, void* array) {
  if (array == nullptr) return;
  for (int64_t i = 0; i < n; ++i) put_scalar<C>(array, c + i, C(from.data[i]));
}

// running <- (1 - momentum) running + momentum batch
template <class C>
inline void update_running(const BatchNorm& p, int64_t c, int64_t n, const ChannelNumbers& batch, void* running) {
  ChannelNumbers updated;
  load_numbers<C>(running, c, n, 0.0, updated);
  const double momentum = p.momentum;
  for (int64_t i = 0; i < n; ++i) updated.data[i] = running_update(updated.data[i], batch.data[i], momentum);
  store_numbers<C>(updated, c, n, running);
}

// Tables for given statistics. `inv_std` null: computed from running_var. What the formulas then still need is 0.
template <class C>
inline void fill_tables(const BatchNorm& p, const ChannelTables<C>& t, int64_t c, int64_t n) {
  ChannelNumbers numbers;
  load_numbers<C>(p.inv_std != nullptr ? p.inv_std : p.running_var, c, n, 0.0, numbers);
  if (p.inv_std == nullptr) {
    const double eps = p.eps;
    for (int64_t i = 0; i < n; ++i) numbers.data[i] = inverse_std(numbers.data[i], eps);
  }
  C* const scale = t.scale + c;
  for (int64_t i = 0; i < n; ++i) scale[i] = scalar_or<C>(p.gamma, c + i, C(1)) * C(numbers.data[i]);
  const void* mean = p.mean != nullptr ? p.mean : p.running_mean;
  for (int64_t i = 0; i < n; ++i) t.mean[c + i] = scalar_or<C>(mean, c + i, C(0));
  for (int64_t i = 0; i < n; ++i) t.beta[c + i] = scalar_or<C>(p.beta, c + i, C(0));
  for (int64_t i = 0; i < n; ++i) t.mean_grad[c + i] = t.slope_grad[c + i] = C(0);
}

// What grad_x needs of the sums over `count` elements: sum(g) / n, and sum(g * xhat) / n per unit of a centred value.
template <class C>
inline void fill_sums(const ChannelTables<C>& t, int64_t c, int64_t n, const ChannelNumbers& sum_grad,
                      const ChannelNumbers& sum_grad_xhat, const ChannelNumbers& xhat_per_centred, double count) {
  if (count == 0.0) return;  // fill_tables put 0
  C* const mean_grad = t.mean_grad + c;
  C* const slope_grad = t.slope_grad + c;
  for (int64_t i = 0; i < n; ++i) mean_grad[i] = C(sum_grad.data[i] / count);
  for (int64_t i = 0; i < n; ++i) slope_grad[i] = C(xhat_per_centred.data[i] * sum_grad_xhat.data[i] / count);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
