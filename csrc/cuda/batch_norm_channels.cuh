// A channel's numbers: from given statistics, or from the parts of a reduction, which are merged here.
//
// Parts are some leaves each, in order (schedule.h); what their blocks left is merged by a few lanes of a warp: part i by
// lane i % lanes in order, then the lanes by a fixed tree. All in double.
#pragma once

#include "core/problem.h"
#include "cuda/reduce.cuh"
#include "math/batch_norm.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class C>
FNN_DEVICE C number_or(const void* numbers, int64_t i, C otherwise) {
  return numbers == nullptr ? otherwise : static_cast<const C*>(numbers)[i];
}
template <class C>
FNN_DEVICE void put_number(void* numbers, int64_t i, double value) {
  if (numbers != nullptr) static_cast<C*>(numbers)[i] = C(value);
}

struct TwoSums {
  double first, second;
};

// What each part of a reduction yields for each of `width` columns, [part][column]: mean, m2 and count, or two sums. Column
// i belongs to channel i % channels.
struct Parts {
  double *first, *second, *count;
  int64_t parts, width, channels, fold;
};

// In place of a lane's number: no part falls to it.
constexpr int kNoLane = 1 << 30;

// f(where) for the parts of a channel that fall to a lane.
template <class F>
FNN_DEVICE void for_parts(const Parts& parts, int64_t channel, int lane, int lanes, const F& f) {
#pragma unroll 1
  for (int64_t i = 0; i < parts.fold; ++i) {
    const int64_t first = i * parts.channels + channel;
#pragma unroll 4
    for (int64_t part = lane; part < parts.parts; part += lanes) f(part * parts.width + first);
  }
}

// Two passes, as the merged mean then costs no division for each part, and nothing waits for it.
FNN_DEVICE Moments merged(const Parts& parts, int64_t channel, int lane, int lanes, Moments /*kind*/) {
  double sums[] = {0.0, 0.0};
  for_parts(parts, channel, lane, lanes, [&](int64_t i) {
    sums[0] += parts.count[i];
    sums[1] += parts.count[i] * parts.first[i];
  });
  add_over_lanes(lanes, sums);
  const double mean = sums[0] > 0.0 ? sums[1] / sums[0] : 0.0;
  double m2[] = {0.0};
  for_parts(parts, channel, lane, lanes, [&](int64_t i) {
    const double d = parts.first[i] - mean;
    m2[0] += parts.second[i] + parts.count[i] * (d * d);
  });
  add_over_lanes(lanes, m2);
  return {mean, m2[0], sums[0]};
}

FNN_DEVICE TwoSums merged(const Parts& parts, int64_t channel, int lane, int lanes, TwoSums /*kind*/) {
  double sums[] = {0.0, 0.0};
  for_parts(parts, channel, lane, lanes, [&](int64_t i) {
    sums[0] += parts.first[i];
    sums[1] += parts.second[i];
  });
  add_over_lanes(lanes, sums);
  return {sums[0], sums[1]};
}

// Where grad_x takes sum(g) / n and sum(g * xhat) / n from: nowhere, made by a finish for all channels, or given sums.
struct GradMeans {
  const void *mean_grad, *slope_grad;
  bool from_sums;
};

// For given statistics. `inv_std` null: computed from running_var.
template <class C>
FNN_DEVICE Channel<C> given_channel(const BatchNorm& p, const GradMeans& means, int64_t c) {
  const C inv_std = p.inv_std != nullptr
                        ? number_or<C>(p.inv_std, c, C(0))
                        : C(inverse_std(static_cast<double>(number_or<C>(p.running_var, c, C(0))), p.eps));
  Channel<C> k{number_or<C>(p.mean != nullptr ? p.mean : p.running_mean, c, C(0)),
               number_or<C>(p.gamma, c, C(1)) * inv_std, number_or<C>(p.beta, c, C(0)),
               number_or<C>(means.mean_grad, c, C(0)), number_or<C>(means.slope_grad, c, C(0))};
  if (means.from_sums && p.count > 0.0) {
    const auto xhat_per_centred = static_cast<double>(inv_std);
    k.mean_grad = C(static_cast<double>(number_or<C>(p.sum_grad, c, C(0))) / p.count);
    k.slope_grad = C(xhat_per_centred * static_cast<double>(number_or<C>(p.sum_grad_xhat, c, C(0))) / p.count);
  }
  return k;
}

// From merged moments to a channel's numbers and, where this thread is to write them, results.
template <class C>
FNN_DEVICE Channel<C> finished(const BatchNorm& p, int64_t c, const Moments& m, bool writes) {
  const C inv_std = C(inverse_std(m.count > 0.0 ? m.m2 / m.count : 0.0, p.eps));
  if (writes) {
    put_number<C>(p.mean, c, m.mean);
    put_number<C>(p.m2, c, m.m2);
    put_number<C>(p.inv_std, c, static_cast<double>(inv_std));
    if (p.running_mean != nullptr && m.count > 0.0) {
      const double variance = m.m2 / (p.unbiased_running_var ? m.count - 1.0 : m.count);
      const auto old_mean = static_cast<double>(number_or<C>(p.running_mean, c, C(0)));
      const auto old_var = static_cast<double>(number_or<C>(p.running_var, c, C(0)));
      put_number<C>(p.running_mean, c, running_update(old_mean, m.mean, p.momentum));
      put_number<C>(p.running_var, c, running_update(old_var, variance, p.momentum));
    }
  }
  return {C(m.mean), number_or<C>(p.gamma, c, C(1)) * inv_std, number_or<C>(p.beta, c, C(0)), C(0), C(0)};
}

// The same from merged sums. What turns centred values into xhat: inv_std, or 1 / gamma from the output.
template <class C>
FNN_DEVICE Channel<C> finished(const BatchNorm& p, int64_t c, const TwoSums& sums, bool writes) {
  double xhat_per_centred;
  if (p.y_in != nullptr) {
    xhat_per_centred = 1.0 / static_cast<double>(number_or<C>(p.gamma, c, C(1)));
  } else if (p.inv_std != nullptr) {
    xhat_per_centred = static_cast<double>(number_or<C>(p.inv_std, c, C(0)));
  } else {
    xhat_per_centred = inverse_std(static_cast<double>(number_or<C>(p.running_var, c, C(0))), p.eps);
  }
  const double sum_grad_xhat = sums.second * xhat_per_centred;
  if (writes) {
    put_number<C>(p.sum_grad, c, sums.first);
    put_number<C>(p.sum_grad_xhat, c, sum_grad_xhat);
  }
  Channel<C> k = given_channel<C>(p, GradMeans{}, c);
  const auto n = static_cast<double>(p.outer * p.inner);
  if (n > 0.0) {
    k.mean_grad = C(sums.first / n);
    k.slope_grad = C(xhat_per_centred * sum_grad_xhat / n);
  }
  return k;
}

// Results, and the means of gradients where `means` has room for them, from the parts of all channels; `lanes` of a warp
// merge those of one. Total: Moments or TwoSums (batch_norm_finish.cu).
template <class Total>
cudaError_t finish_batch_norm(const BatchNorm& p, const Parts& parts, int lanes, const GradMeans& means,
                              cudaStream_t stream);

}  // namespace FNN_UNIT
}  // namespace fusednn
