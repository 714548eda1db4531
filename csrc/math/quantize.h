// 8-bit codes of optimizer states, with one float32 scale for each 256 elements: 1.016 bytes an element instead of 4.
//
// A code c > 0 stands for the magnitude (1 + (c mod 8) / 8) 2^(c div 8 - top) times the scale, code 0 for zero: a float
// with three mantissa bits, eight steps in each octave. The scale is the power of two that puts the block's largest
// magnitude near the top code.
//   signed     bit 7 is the sign, c in 0 ... 127, top = 15: 16 octaves, 1.875 down to 3.4e-5 of the scale
//   unsigned   c in 0 ... 255, top = 31: 32 octaves, down to 5.2e-10. Only zero becomes zero; what lies below the last
//              octave becomes code 1: a second moment that were lost would let the update m / sqrt(v) explode.
// So sqrt(v) reaches as far down as m, and the update of no element exceeds what m allows.
//
// Rounding is stochastic: an average that moves by 0.1 % in a step would never leave its code otherwise. With scales
// that are powers of two a value that did not change keeps its code exactly, whatever its neighbours do, so that noise
// comes from changes only. Measured in blocks of normal gradients, 2,000 steps of Adam's averages, as the relative RMS
// error of m / sqrt(v), for standard deviations that differ by one decade, by three decades within the block:
//   this code 0.13, 0.13; rounded to nearest 0.96, 0.96; scale = absolute maximum: 0.14, 0.14, to nearest 0.20, 0.16;
//   16 steps an octave (half the octaves) 0.08, 0.72; the dynamic tree of Dettmers et al. (2022, 8-bit Optimizers via
//   Block-wise Quantization) 0.07, 0.24; linear codes 57 and more, as small v become zero.
// All of it is integer arithmetic on the bits of floats: it vectorises and gives the same bits everywhere.
#pragma once

#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Which of the two codes a state may be kept in.
enum class Codes : int32_t { kNone, kSigned, kUnsigned };

// Elements that share a scale.
constexpr int64_t kCodeBlock = 256;

// The bits of a float that a code drops.
constexpr int kDroppedBits = 20;

// Below this scale the smallest code would not be a normal float.
constexpr uint32_t kSmallestScale = 32u << 23;

// As the random bits of a rounding: to the nearest code.
constexpr uint32_t kToNearest = 0x80000000u;

FNN_INLINE constexpr uint32_t levels(bool is_signed) { return is_signed ? 127u : 255u; }

// The scale of a block as the bits of a float, from the bits of its largest magnitude. A block that holds an infinity,
// a NaN or a number past 1.875 * 2^127 is all NaN afterwards: its scale is.
FNN_INLINE uint32_t scale_of(uint32_t largest) {
  if (largest > 0x7f700000u) return 0x7fc00000u;
  if (largest == 0) return 0;
  // The next power of two where the largest magnitude lies above the top code.
  const uint32_t power = (largest + ((1u << kDroppedBits) - 1u)) & 0x7f800000u;
  return power < kSmallestScale ? kSmallestScale : power;
}

// The top bits that a float equal to code 0 would have if codes went on evenly: code = top bits - this.
FNN_INLINE uint32_t code_origin(uint32_t scale, bool is_signed) {
  return (scale >> kDroppedBits) + 7u - levels(is_signed);
}

// Which of the numbers with these bits lie below the first code. U is uint32_t or a vector of it, here and below; F is
// float or a vector of it.
template <class U>
FNN_INLINE auto below_first(U bits, uint32_t origin) {
  return (bits & 0x7fffffffu) < (origin + 1u) << kDroppedBits;
}

// The codes of numbers with these bits, none of them below the first code, in a block whose scale is positive and finite.
template <bool kIsSigned, class U>
FNN_INLINE U encoded_from_first(U bits, uint32_t origin, U random) {
  const U code = (((bits & 0x7fffffffu) + (random >> (32 - kDroppedBits))) >> kDroppedBits) - origin;
  return kIsSigned ? code | (bits >> 24 & 0x80u) : code;
}

// The codes of any numbers in such a block.
template <bool kIsSigned, class U>
FNN_INLINE U encoded(U bits, uint32_t origin, U random) {
  const U magnitude = bits & 0x7fffffffu;
  const U code = encoded_from_first<kIsSigned>(bits, origin, random);
  if constexpr (kIsSigned) {
    // Below the first code: that or zero, in proportion.
    const auto first = bit_cast<float>((origin + 1u) << kDroppedBits);
    const auto limit = float_of_integer(random >> 8) * (0x1p-24f * first);
    const U low = bit_cast<U>(limit) < magnitude ? U{} + 1u : U{};
    return below_first(bits, origin) ? low | (bits >> 24 & 0x80u) : code;
  } else {
    const U low = magnitude != 0u ? U{} + 1u : U{};
    return below_first(bits, origin) ? low : code;
  }
}

// The numbers that codes stand for, times the scale: exact.
template <bool kIsSigned, class F, class U>
FNN_INLINE F decoded_as(U code, float scale) {
  const U magnitude = kIsSigned ? code & 0x7fu : code;
  const U sign = kIsSigned ? (code & 0x80u) << 24 : U{};
  const U bits = (magnitude + code_origin(0x3f800000u, kIsSigned)) << kDroppedBits;
  return bit_cast<F>((magnitude == 0u ? U{} : bits) | sign) * scale;
}
template <bool kIsSigned>
FNN_INLINE float decoded(uint8_t code, float scale) {
  return decoded_as<kIsSigned, float>(uint32_t{code}, scale);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
