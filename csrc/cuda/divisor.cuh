// Division by a number that is known before the launch, as a multiplication. The machine's own division of 64-bit numbers
// is a call: much code, after which the compiler no longer sees that the threads of a warp go the same way.
#pragma once

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

class Divisor {
 public:
  // Zero: nothing will be divided.
  explicit Divisor(int64_t number)
      : number_(number), reciprocal_(number > 0 ? ~uint64_t{0} / static_cast<uint64_t>(number) : 0) {}

  FNN_INLINE int64_t number() const { return number_; }
  // n / number, n not negative. The reciprocal is too small by at most one, and so is what it yields.
  FNN_DEVICE int64_t quotient(int64_t n) const {
    const auto low = static_cast<int64_t>(__umul64hi(static_cast<uint64_t>(n), reciprocal_));
    return low + (n - low * number_ >= number_ ? 1 : 0);
  }

 private:
  int64_t number_;
  uint64_t reciprocal_;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
