// Rounding up or down at random, so that the mean of many roundings is the number itself: x lies between two neighbours
// a < b of the shorter type and becomes b with probability (x - a) / (b - a). Updates far below the spacing of the
// parameters, which rounding to nearest drops every time, then add up. (Croci et al. 2022, Stochastic rounding.)
//
// The random bits are a pure function of (seed, step, tensor, stream, element): no state, no order, the same on every
// device and for every number of threads. The key of a tensor, and from it that of each block of elements, is made by
// 64-bit mixing (the finaliser of SplitMix64: Steele, Lea and Flood 2014). Within a block an element costs two 32-bit
// multiplications, which every vector unit has: the mixing of Wellons' lowbias32 (hash-prospector, 2018), of the
// element's number plus one half of the block's key, with the other half put in between the multiplications so that no
// two blocks walk through the same sequence. Philox4x32 would cost ten rounds of widening multiplications for four
// words, Widynski's squares 64-bit multiplications, which few vector units have; the tests of means, bits and
// correlations in tests/test_stochastic_rounding.py see no difference from true randomness.
#pragma once

#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

FNN_INLINE uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Successive multiples of 2^64 / golden ratio lie far apart.
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

// Elements that share a block key.
constexpr int64_t kRandomBlock = 1024;

struct BlockKey {
  uint32_t offset, twist;
};

FNN_INLINE uint64_t tensor_key(uint64_t seed, int64_t step, int64_t tensor) {
  const uint64_t of_step = mixed(mixed(seed + kGolden) + kGolden * static_cast<uint64_t>(step));
  return mixed(of_step + kGolden * static_cast<uint64_t>(tensor + 1));
}

// `stream` numbers the arrays that belong to the tensor: parameter, average, states.
FNN_INLINE BlockKey block_key(uint64_t tensor_key, int32_t stream, int64_t block) {
  const uint64_t of_stream = mixed(tensor_key + kGolden * static_cast<uint64_t>(stream + 1));
  const uint64_t key = mixed(of_stream + kGolden * static_cast<uint64_t>(block + 1));
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
}

// 32 random bits for element `lane` of a block. U is uint32_t or a vector of it, here and below.
template <class U>
FNN_INLINE U random_bits(BlockKey key, U lane) {
  U x = lane + key.offset;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  // x ^= twist, then x ^= x >> 15, whose constants are one.
  x = (x ^ (x >> 15) ^ (key.twist ^ (key.twist >> 15))) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Adds 16 random bits below the kept ones and truncates. What lies above the largest finite number may become
// infinity; infinity stays, every NaN becomes the same one.
template <class U, class F>
FNN_INLINE U bfloat16_stochastic(F x, U random) {
  const U rounded = (bit_cast<U>(x) + (random >> 16)) >> 16;
  return x != x ? U{} + 0x7fc0u : rounded;
}

FNN_INLINE BFloat16 narrow_stochastic(float x, uint32_t random) {
  return BFloat16{static_cast<uint16_t>(bfloat16_stochastic(x, random))};
}

}  // namespace FNN_UNIT
}  // namespace fusednn
