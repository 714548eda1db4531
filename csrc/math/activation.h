// Leaky ReLU: y = z where z > 0, else negative_slope * z. Slope 1 is the identity, slope 0 is ReLU, so that every
// kernel applies it without asking. V is a scalar or a vector of scalars C.
#pragma once

#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class V, class C>
FNN_INLINE V leaky_relu(V z, C negative_slope) {
  return z > C(0) ? z : z * negative_slope;
}

// The gradient with respect to z, from z or, where the slope is positive, from y: they have one sign.
template <class V, class C>
FNN_INLINE V leaky_relu_grad(V grad, V z, C negative_slope) {
  return z > C(0) ? grad : grad * negative_slope;
}

// A slope and its inverse, which only the in-place form needs, where the slope is positive.
template <class C>
struct Slope {
  C negative, inverse;
};

template <class C>
FNN_INLINE Slope<C> slope_of(double negative_slope) {
  return {C(negative_slope), C(1.0 / negative_slope)};
}

// inverse_slope = 1 / negative_slope: a division of every element takes longer than reading it.
template <class V, class C>
FNN_INLINE V leaky_relu_inverse(V y, C inverse_slope) {
  return y > C(0) ? y : y * inverse_slope;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
