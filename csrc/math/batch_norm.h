// BatchNorm's formulas (Ioffe and Szegedy 2015).
//
//   y      = leaky_relu((x - mean) * scale + beta),   scale = gamma * inv_std,   inv_std = 1 / sqrt(m2 / n + eps)
//   g      = grad after the activation's derivative,  xhat = (x - mean) * inv_std
//   grad_x = scale * (g - sum(g) / n - xhat * sum(g * xhat) / n),  grad_gamma = sum(g * xhat),  grad_beta = sum(g)
//
// (x - mean) * scale and not x * a + b: the latter cancels where |mean| is far above the standard deviation.
#pragma once

#include "math/activation.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Mean and sum of squared deviations of `count` numbers.
struct Moments {
  double mean;
  double m2;
  double count;
};

// Chan, Golub and LeVeque 1979. An empty side leaves the other unchanged.
FNN_INLINE Moments merge(Moments a, Moments b) {
  const double count = a.count + b.count;
  const double weight = count > 0.0 ? b.count / count : 0.0;
  const double delta = b.mean - a.mean;
  return Moments{a.mean + delta * weight, a.m2 + b.m2 + delta * delta * (a.count * weight), count};
}

// From the sums of (x - pivot) and of (x - pivot)^2, for any pivot near the mean.
FNN_INLINE Moments moments_about(double pivot, double sum, double sum_of_squares, double count) {
  const double shift = count > 0.0 ? sum / count : 0.0;
  const double m2 = sum_of_squares - sum * shift;
  // m2 may round below zero where all numbers are equal; NaN must stay.
  return Moments{pivot + shift, m2 < 0.0 ? 0.0 : m2, count};
}

FNN_INLINE double inverse_std(double variance, double eps) { return 1.0 / sqrt(variance + eps); }

FNN_INLINE double running_update(double running, double batch, double momentum) {
  return (1.0 - momentum) * running + momentum * batch;
}

// V is a scalar or a vector of scalars C; so is K, the type of a channel's numbers.
template <class V, class K>
FNN_INLINE V normalize(V centred, K scale, K beta) {
  return centred * scale + beta;
}

// What the backward pass needs of an element: its deviation from the mean in some unit, and g.
template <class V>
struct Recovered {
  V centred;
  V grad;
};

// From the input: centred = x - mean, so that xhat = centred * inv_std.
struct FromInput {
  template <class V, class K, class C>
  static FNN_INLINE Recovered<V> recover(V grad, V x, K mean, K scale, K beta, Slope<C> slope) {
    const V centred = x - mean;
    return {centred, leaky_relu_grad(grad, normalize(centred, scale, beta), slope.negative)};
  }
};

// From the output, in place of which x stood: centred = z - beta, so that xhat = centred / gamma (Bulo et al. 2018).
struct FromOutput {
  template <class V, class K, class C>
  static FNN_INLINE Recovered<V> recover(V grad, V y, K /*mean*/, K /*scale*/, K beta, Slope<C> slope) {
    return {leaky_relu_inverse(y, slope.inverse) - beta, leaky_relu_grad(grad, y, slope.negative)};
  }
};

// mean_grad = sum(g) / n; slope_grad = xhat's unit * sum(g * xhat) / n.
template <class V, class K>
FNN_INLINE V grad_input(Recovered<V> r, K scale, K mean_grad, K slope_grad) {
  return scale * ((r.grad - mean_grad) - r.centred * slope_grad);
}

// One channel's numbers, or those of neighbouring channels in vectors.
template <class V>
struct Channel {
  V mean, scale, beta, mean_grad, slope_grad;
};

// The passes' formulas for one element, (grad, x, channel): C is the type of computation, V and K a scalar or a vector.
template <class C>
struct Normalize {
  C negative_slope;
  template <class V, class K>
  FNN_INLINE V operator()(V /*grad*/, V x, const Channel<K>& k) const {
    return leaky_relu(normalize(x - k.mean, k.scale, k.beta), negative_slope);
  }
};

template <class C, class From>
struct Recover {
  Slope<C> slope;
  template <class V, class K>
  FNN_INLINE Recovered<V> operator()(V grad, V x, const Channel<K>& k) const {
    return From::recover(grad, x, k.mean, k.scale, k.beta, slope);
  }
};

template <class C, class From>
struct GradInput {
  Recover<C, From> recover;
  template <class V, class K>
  FNN_INLINE V operator()(V grad, V x, const Channel<K>& k) const {
    return grad_input(recover(grad, x, k), k.scale, k.mean_grad, k.slope_grad);
  }
};

// Frozen statistics: they do not depend on x.
template <class C>
struct FrozenGradInput {
  Recover<C, FromInput> recover;
  template <class V, class K>
  FNN_INLINE V operator()(V grad, V x, const Channel<K>& k) const {
    return recover(grad, x, k).grad * k.scale;
  }
};

}  // namespace FNN_UNIT
}  // namespace fusednn
