// Blocks of states in 8-bit codes, with a scale per kCodeBlock elements (math/quantize.h). `index` is a multiple of
// kBlock, so that neither the blocks of random bits nor those of codes depend on where threads cut a tensor.
#pragma once

#include "cpu/blocks.h"
#include "math/quantize.h"
#include "math/stochastic_rounding.h"

namespace fusednn {
inline namespace FNN_UNIT {

static_assert(kBlock == kRandomBlock && kBlock % kCodeBlock == 0);

// f(begin, length) for the blocks of codes among n elements. For all but the last the compiler knows the length.
template <class F>
FNN_INLINE void for_code_blocks(int64_t n, const F& f) {
  int64_t begin = 0;
  for (; begin + kCodeBlock <= n; begin += kCodeBlock) f(begin, kCodeBlock);
  if (begin < n) f(begin, n - begin);
}

template <bool kIsSigned>
inline void load_codes_of(const void* data, const void* scales, int64_t index, int64_t n, float* to) {
  for_code_blocks(n, [&](int64_t begin, int64_t length) __attribute__((always_inline)) {
    const uint8_t* __restrict codes = static_cast<const uint8_t*>(data) + index + begin;
    float* __restrict values = to + begin;
    const float scale = scalar_at<float>(scales, (index + begin) / kCodeBlock);
    for (int64_t i = 0; i < length; ++i) values[i] = decoded<kIsSigned>(codes[i], scale);
  });
}

FNN_ONE_COPY void load_codes(Codes code, const void* data, const void* scales, int64_t index, int64_t n, float* to) {
  if (code == Codes::kSigned) {
    load_codes_of<true>(data, scales, index, n, to);
  } else {
    load_codes_of<false>(data, scales, index, n, to);
  }
}

template <bool kIsSigned>
inline void store_codes_of(const float* from, int64_t n, void* data, void* scales, int64_t index, BlockKey key) {
  for_code_blocks(n, [&](int64_t begin, int64_t length) __attribute__((always_inline)) {
    const float* __restrict values = from + begin;
    uint8_t* __restrict codes = static_cast<uint8_t*>(data) + index + begin;
    // The bits of magnitudes are ordered as the magnitudes are, NaN last.
    int32_t largest = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto magnitude = static_cast<int32_t>(bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
      largest = magnitude > largest ? magnitude : largest;
    }
    const uint32_t scale = scale_of(static_cast<uint32_t>(largest));
    put_scalar(scales, (index + begin) / kCodeBlock, bit_cast<float>(scale));
    if (scale == 0 || scale > 0x7f800000u) {
      __builtin_memset(codes, 0, static_cast<size_t>(length));
      return;
    }
    const uint32_t origin = code_origin(scale, kIsSigned);
    const auto lane = static_cast<uint32_t>(begin);
    for (int64_t i = 0; i < length; ++i) {
      const uint32_t random = random_bits(key, lane + static_cast<uint32_t>(i));
      codes[i] = encoded<kIsSigned>(bit_cast<uint32_t>(values[i]), origin, random);
    }
  });
}

FNN_ONE_COPY void store_codes(Codes code, const float* from, int64_t n, void* data, void* scales, int64_t index,
                              BlockKey key) {
  if (code == Codes::kSigned) {
    store_codes_of<true>(from, n, data, scales, index, key);
  } else {
    store_codes_of<false>(from, n, data, scales, index, key);
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
