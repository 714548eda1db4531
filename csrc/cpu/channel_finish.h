// Between BatchNorm's passes: partial sums of some channels into their statistics, tables and results.
//
// A block of channels at a time, each step a loop over the block that vectorises: with few elements per channel this
// takes as long as the passes. The order of every sum is that of the parts, for one channel as for many. The steps are
// functions of their own, as every kernel would hold a copy of their loops otherwise.
#pragma once

#include "cpu/channel_tables.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int64_t kChannelBlock = 128;

// A number for each channel of a block.
struct alignas(64) ChannelNumbers {
  double data[kChannelBlock];
};

// f(first channel, how many) for blocks of [begin, end).
template <class F>
FNN_INLINE void for_channel_blocks(int64_t begin, int64_t end, const F& f) {
  for (int64_t c = begin; c < end; c += kChannelBlock) f(c, end - c < kChannelBlock ? end - c : kChannelBlock);
}

FNN_ONE_COPY void merge_part(ChannelNumbers& mean, ChannelNumbers& m2, double count, const double* part_means,
                             const double* part_m2s, double part_count, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const Moments m = merge(Moments{mean.data[i], m2.data[i], count}, Moments{part_means[i], part_m2s[i], part_count});
    mean.data[i] = m.mean;
    m2.data[i] = m.m2;
  }
}

// Means and sums of squared deviations of channels c ... c + n - 1. Returns the elements of each.
template <class Geometry>
inline double fold_moments(const Geometry& geometry, const BatchNorm& p, const Partials& partials, int64_t c, int64_t n,
                           ChannelNumbers& mean, ChannelNumbers& m2) {
  double count = 0.0;
  mean = m2 = {};
  for (int64_t part = 0; part < geometry.parts(); ++part) {
    const int64_t at = part * p.channels + c;
    const double more = geometry.part_count(part);
    merge_part(mean, m2, count, partials.first + at, partials.second + at, more, n);
    count += more;
  }
  return count;
}

FNN_ONE_COPY void fold_sums(int64_t parts, int64_t channels, const double* partial, int64_t n, ChannelNumbers& sum) {
  sum = {};
  for (int64_t part = 0; part < parts; ++part) {
    const double* more = partial + part * channels;
    for (int64_t i = 0; i < n; ++i) sum.data[i] += more[i];
  }
}

// Per-channel arrays of C, which may be misaligned, to and from numbers. `array` null: `otherwise`, or nowhere.
template <class C>
FNN_ONE_COPY void load_numbers(const void* array, int64_t c, int64_t n, double otherwise, ChannelNumbers& to) {
  for (int64_t i = 0; array == nullptr && i < n; ++i) to.data[i] = otherwise;
  for (int64_t i = 0; array != nullptr && i < n; ++i) to.data[i] = static_cast<double>(scalar_at<C>(array, c + i));
}

template <class C>
FNN_ONE_COPY void store_numbers(const ChannelNumbers& from, int64_t c, int64_t n, void* array) {
  for (int64_t i = 0; array != nullptr && i < n; ++i) put_scalar<C>(array, c + i, C(from.data[i]));
}

FNN_ONE_COPY void divide(ChannelNumbers& numbers, int64_t n, double divisor) {
  for (int64_t i = 0; i < n; ++i) numbers.data[i] /= divisor;
}

// From variances.
FNN_ONE_COPY void inverse_stds(ChannelNumbers& numbers, int64_t n, double eps) {
  for (int64_t i = 0; i < n; ++i) numbers.data[i] = inverse_std(numbers.data[i], eps);
}

// running <- (1 - momentum) running + momentum batch
template <class C>
FNN_ONE_COPY void update_running(const ChannelNumbers& batch, int64_t c, int64_t n, double momentum, void* running) {
  for (int64_t i = 0; i < n; ++i) {
    const auto old = static_cast<double>(scalar_at<C>(running, c + i));
    put_scalar<C>(running, c + i, C(running_update(old, batch.data[i], momentum)));
  }
}

// The tables of y = (x - mean) * scale + beta.
template <class C>
FNN_ONE_COPY void fill_affine(const BatchNorm& p, const ChannelTables<C>& t, int64_t c, int64_t n,
                              const ChannelNumbers& mean, const ChannelNumbers& inv_std) {
  const auto parameter = [c](const void* array, int64_t i, C otherwise)
                             __attribute__((always_inline)) { return scalar_or<C>(array, c + i, otherwise); };
  C* const scale = t.scale + c;
  C* const beta = t.beta + c;
  C* const means = t.mean + c;
  for (int64_t i = 0; i < n; ++i) scale[i] = parameter(p.gamma, i, C(1)) * C(inv_std.data[i]);
  for (int64_t i = 0; i < n; ++i) beta[i] = parameter(p.beta, i, C(0));
  for (int64_t i = 0; i < n; ++i) means[i] = C(mean.data[i]);
}

// What grad_x needs of the sums over `count` elements: sum(g) / n, and sum(g * xhat) / n per unit of a centred value.
template <class C>
FNN_ONE_COPY void fill_sums(const ChannelTables<C>& t, int64_t c, int64_t n, const ChannelNumbers& sum_grad,
                            const ChannelNumbers& sum_grad_xhat, const ChannelNumbers& xhat_per_centred, double count) {
  C* const mean_grad = t.mean_grad + c;
  C* const slope_grad = t.slope_grad + c;
  for (int64_t i = 0; i < n; ++i) {
    mean_grad[i] = count > 0.0 ? C(sum_grad.data[i] / count) : C(0);
    slope_grad[i] = count > 0.0 ? C(xhat_per_centred.data[i] * sum_grad_xhat.data[i] / count) : C(0);
  }
}

// Given statistics; where there is no inv_std it is computed from running_var.
template <class C>
inline void load_inv_std(const BatchNorm& p, int64_t c, int64_t n, ChannelNumbers& to) {
  load_numbers<C>(p.inv_std != nullptr ? p.inv_std : p.running_var, c, n, 0.0, to);
  if (p.inv_std == nullptr) inverse_stds(to, n, p.eps);
}

template <class C>
inline void fill_tables(const BatchNorm& p, const ChannelTables<C>& t, int64_t c, int64_t n) {
  ChannelNumbers mean;
  ChannelNumbers inv_std;
  load_numbers<C>(p.mean != nullptr ? p.mean : p.running_mean, c, n, 0.0, mean);
  load_inv_std<C>(p, c, n, inv_std);
  fill_affine(p, t, c, n, mean, inv_std);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
