// Scalars: the storage types, their conversion to and from the type of computation, and the few functions that
// formulas need beside + - * /. Every operation here rounds once, as IEEE 754 says, on every device.
//
// The code of math/ is compiled once per instruction set and once for the GPU. FNN_UNIT names the namespace of each,
// so that the linker never mixes two compilations of one inline function.
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define FNN_INLINE __host__ __device__ inline __attribute__((always_inline))
#else
#define FNN_INLINE inline __attribute__((always_inline))
#endif

// What is called once for many elements: not worth a copy in each caller. The second is the GPU's, too.
#define FNN_ONE_COPY inline __attribute__((noinline))
#ifdef __CUDACC__
#define FNN_ONE_COPY_EACH __host__ __device__ FNN_ONE_COPY
#else
#define FNN_ONE_COPY_EACH FNN_ONE_COPY
#endif

#ifndef FNN_UNIT
#define FNN_UNIT host
#endif

namespace fusednn {
inline namespace FNN_UNIT {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type in which elements of a storage type are computed, and in which statistics and parameters are kept.
template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// The same bits as another type of the same size.
template <class To, class From>
FNN_INLINE To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &value, sizeof to);
  return to;
}

// Conversions of the short types on the bits of float32. U is uint32_t or a vector of it, F float or a vector of it.
template <class F, class U>
FNN_INLINE F float_of_bfloat16(U bits) {
  return bit_cast<F>(bits << 16);
}

// Round to nearest, ties to even, by adding half of the last kept place to the bits; every NaN becomes the same one.
template <class U, class F>
FNN_INLINE U bfloat16_of_float(F x) {
  const U bits = bit_cast<U>(x);
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return x != x ? U{} + 0x7fc0u : rounded;
}

template <class F, class U>
FNN_INLINE F float_of_float16(U bits) {
  const U sign = (bits & 0x8000u) << 16;
  const U magnitude = bits & 0x7fffu;
  // Normal numbers and subnormals: put the exponent in place, then scale by 2^112; exact, as float32 holds all of them.
  const U finite = bit_cast<U>(bit_cast<F>(magnitude << 13) * 0x1p112f);
  const U special = (magnitude << 13) | 0x7f800000u;
  return bit_cast<F>(sign | (magnitude >= 0x7c00u ? special : finite));
}

template <class U, class F>
FNN_INLINE U float16_of_float(F x) {
  const U sign = (bit_cast<U>(x) >> 16) & 0x8000u;
  const U magnitude = bit_cast<U>(x) & 0x7fffffffu;
  // Normal range: rebias the exponent (15 - 127) and round to nearest even at bit 13, carrying into the exponent.
  const U normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 the spacing is 2^-24: adding 0.5 lets the adder round to that spacing.
  const U subnormal = bit_cast<U>(bit_cast<F>(magnitude) + 0.5f) - 0x3f000000u;
  const U finite = magnitude < 0x38800000u ? subnormal : normal;
  const U infinity_or_nan = magnitude > 0x7f800000u ? U{} + 0x7e00u : U{} + 0x7c00u;
  return sign | (magnitude >= 0x477ff000u ? infinity_or_nan : finite);
}

FNN_INLINE float widen(float x) { return x; }
FNN_INLINE double widen(double x) { return x; }
FNN_INLINE float widen(BFloat16 x) { return float_of_bfloat16<float>(uint32_t{x.bits}); }
FNN_INLINE float widen(Float16 x) { return float_of_float16<float>(uint32_t{x.bits}); }

template <class T>
FNN_INLINE T narrow(Compute<T> x);

template <>
FNN_INLINE float narrow<float>(float x) {
  return x;
}

template <>
FNN_INLINE double narrow<double>(double x) {
  return x;
}

template <>
FNN_INLINE BFloat16 narrow<BFloat16>(float x) {
  return BFloat16{static_cast<uint16_t>(bfloat16_of_float<uint32_t>(x))};
}

template <>
FNN_INLINE Float16 narrow<Float16>(float x) {
  return Float16{static_cast<uint16_t>(float16_of_float<uint32_t>(x))};
}

// Integers below 2^31 as floats, and square roots; cpu/vectors.h adds those of vectors.
template <class U>
struct FloatOfInteger;
template <>
struct FloatOfInteger<uint32_t> {
  static FNN_INLINE float of(uint32_t x) { return static_cast<float>(static_cast<int32_t>(x)); }
};
template <class U>
FNN_INLINE auto float_of_integer(U x) {
  return FloatOfInteger<U>::of(x);
}

template <class V>
struct SquareRoot;
template <>
struct SquareRoot<float> {
  static FNN_INLINE float of(float x) { return sqrtf(x); }
};
template <>
struct SquareRoot<double> {
  static FNN_INLINE double of(double x) { return sqrt(x); }
};
template <class V>
FNN_INLINE V square_root(V x) {
  return SquareRoot<V>::of(x);
}

// The larger, of scalars or of each element of vectors; NaN where either is.
template <class V>
FNN_INLINE V larger(V a, V b) {
  return a > b || a != a ? a : b;
}

// base^exponent by repeated squaring: libm's pow differs between machines and devices, this does not.
FNN_INLINE double power(double base, int64_t exponent) {
  double result = 1.0;
  for (int64_t e = exponent; e > 0; e >>= 1) {
    if (e & 1) result *= base;
    base *= base;
  }
  return result;
}

// e^x - 1 for -0.35 < x < 0.35: the series, whose terms fall below a rounding error at the eighteenth.
FNN_INLINE double small_exponential_minus_1(double x) {
  double sum = 1.0;
  for (int k = 18; k > 1; --k) sum = 1.0 + x * (1.0 / k) * sum;
  return x * sum;
}

// e^x for x <= 0, without libm, as power is: x = n ln 2 + r. The product of n and the first part of ln 2 is exact.
FNN_ONE_COPY_EACH double exponential(double x) {
  if (x < -700.0) return 0.0;
  const int64_t n = static_cast<int64_t>(0.5 - x * 1.4426950408889634);
  const double r = (x + n * 6.93147180369123816490e-01) + n * 1.90821492927058770002e-10;
  return (1.0 + small_exponential_minus_1(r)) * power(0.5, n);
}

// 1 - e^x for x <= 0, without cancellation.
FNN_ONE_COPY_EACH double one_minus_exponential(double x) {
  return x > -0.35 ? -small_exponential_minus_1(x) : 1.0 - exponential(x);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
