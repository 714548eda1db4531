// What every optimizer may do to a gradient before, and to a parameter around, its own formula: scale and clip, decay,
// keep an average. math/optimizer.h has the formulas themselves.
#pragma once

#include "math/optimizer.h"

namespace fusednn {
inline namespace FNN_UNIT {

// What gradients are multiplied by so that their norm becomes at most `limit`. NaN where the norm is.
FNN_INLINE double clip_factor(double norm, double limit, int32_t convention) {
  const double factor = limit / (norm + norm_epsilon(convention));
  return factor < 1.0 ? factor : (norm != norm ? norm : 1.0);
}

template <class C>
struct CommonCoefficients {
  C grad_factor;   // 1 / grad_scale, the clip by norm and the sign of `maximize` in one
  C clip_value;    // infinity: off
  C l2;            // g <- g + l2 p
  C decay;         // p <- p - decay p
  C ema_momentum;  // 0 at the first step: the average starts as a copy, whatever it held
  bool changes_gradient, only_scales;
};

// From the options of `p`, core/problem.h's OptimizerStep, whose learning rate and gradient scale are given apart: they may
// be the device's.
template <class C, class Options>
FNN_INLINE CommonCoefficients<C> common_coefficients(const Options& p, double lr, double grad_scale, double clip_factor,
                                                     int64_t step) {
  CommonCoefficients<C> k;
  k.grad_factor = C(clip_factor / grad_scale * (p.maximize ? -1.0 : 1.0));
  k.clip_value = C(p.clip_value);
  k.l2 = p.decoupled_weight_decay ? C(0) : C(p.weight_decay);
  k.decay = p.decoupled_weight_decay ? C(lr * p.weight_decay) : C(0);
  // The average starts as a copy of the first parameters.
  k.ema_momentum = step == first_step(p.convention) ? C(0) : C(p.ema_momentum);
  k.only_scales = p.clip_value == HUGE_VAL && k.l2 == C(0);
  k.changes_gradient = k.grad_factor != C(1) || !k.only_scales;
  return k;
}

template <class C, class V>
FNN_INLINE V prepared_gradient(const CommonCoefficients<C>& k, V g, V p) {
  g = g * k.grad_factor;
  g = g > k.clip_value ? k.clip_value : g;
  g = g < -k.clip_value ? -k.clip_value : g;
  return k.l2 == C(0) ? g : g + k.l2 * p;
}

template <class C, class V>
FNN_INLINE V decayed(const CommonCoefficients<C>& k, V p) {
  return p - k.decay * p;
}

template <class C, class V>
FNN_INLINE V ema_updated(const CommonCoefficients<C>& k, V ema, V p) {
  return k.ema_momentum == C(0) ? p : k.ema_momentum * ema + (C(1) - k.ema_momentum) * p;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
