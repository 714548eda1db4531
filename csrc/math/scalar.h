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

FNN_INLINE uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

FNN_INLINE float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

FNN_INLINE float widen(float x) { return x; }
FNN_INLINE double widen(double x) { return x; }
FNN_INLINE float widen(BFloat16 x) { return float_of(uint32_t{x.bits} << 16); }

FNN_INLINE float widen(Float16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  // Normal numbers and subnormals: put the exponent in place, then scale by 2^112; exact, as float32 holds all of them.
  const float finite = float_of(magnitude << 13) * 0x1p112f;
  const uint32_t special = (magnitude << 13) | 0x7f800000u;
  return float_of(sign | (magnitude >= 0x7c00u ? special : bits_of(finite)));
}

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

// Round to nearest, ties to even, by adding half of the last kept place to the bits; NaN stays NaN.
template <>
FNN_INLINE BFloat16 narrow<BFloat16>(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t nan = (bits >> 16) | 0x40u;
  return BFloat16{static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

template <>
FNN_INLINE Float16 narrow<Float16>(float x) {
  const uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
  const uint32_t magnitude = bits_of(x) & 0x7fffffffu;
  // Normal range: rebias the exponent (15 - 127) and round to nearest even at bit 13, carrying into the exponent.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 the spacing is 2^-24: adding 0.5 lets the adder round to that spacing.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32_t overflowed = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return Float16{static_cast<uint16_t>(sign | (magnitude >= 0x477ff000u ? overflowed : finite))};
}

FNN_INLINE float square_root(float x) { return sqrtf(x); }
FNN_INLINE double square_root(double x) { return sqrt(x); }

// The larger; NaN where either is.
template <class C>
FNN_INLINE C larger(C a, C b) {
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

}  // namespace FNN_UNIT
}  // namespace fusednn
