// Whether BatchNorm's normalised input can be recovered from its output, which the in-place form does.
//
//   z = y > 0 ? y : y / negative_slope,  xhat = (z - beta) / gamma
//
// y is rounded to its type: by half an epsilon of |z|, and where it is subnormal by half the smallest subnormal number.
// So xhat is wrong by up to
//
//   (eps (|gamma xhat| + |beta|) + smallest / min(negative_slope, 1)) / (2 |gamma|),
//
// of which the part with xhat is as small as any rounding. The rest is allowed to be sqrt(eps) / 2: half of the digits
// of a value of order one. That is |beta / gamma| up to 2896 in float32, 32 in float16, 11 in bfloat16.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "core/problem.h"

namespace fusednn {

class Recovery {
 public:
  Recovery(DType dtype, double negative_slope)
      : eps_{epsilon(dtype)},
        lost_to_underflow_{smallest_subnormal(dtype) / std::min(negative_slope, 1.0)},
        smallest_normal_{dtype == DType::kFloat64 ? DBL_MIN : static_cast<double>(FLT_MIN)} {}

  // The kernels multiply by inverses, which must be normal numbers of the type they compute in.
  bool allows_slope(double slope) const { return slope >= smallest_normal_ && slope <= 1.0 / smallest_normal_; }

  // NaN passes: what is computed from it is NaN.
  bool allows(double gamma, double beta) const { return !(std::abs(gamma) < smallest_gamma(beta)); }

  double smallest_gamma(double beta) const {
    return std::max(smallest_normal_, (eps_ * std::abs(beta) + lost_to_underflow_) / std::sqrt(eps_));
  }

 private:
  static double epsilon(DType dtype) {
    if (dtype == DType::kFloat64) return std::ldexp(1.0, -52);
    if (dtype == DType::kFloat32) return std::ldexp(1.0, -23);
    return std::ldexp(1.0, dtype == DType::kFloat16 ? -10 : -7);
  }

  static double smallest_subnormal(DType dtype) {
    if (dtype == DType::kFloat64) return std::ldexp(1.0, -1074);
    if (dtype == DType::kFloat32) return std::ldexp(1.0, -149);
    return std::ldexp(1.0, dtype == DType::kFloat16 ? -24 : -133);
  }

  double eps_, lost_to_underflow_, smallest_normal_;
};

}  // namespace fusednn
