// Blocks of states in 8-bit codes, with a scale per kCodeBlock elements (math/quantize.h). `index` is a multiple of
// kBlock, so that neither the blocks of random bits nor those of codes depend on where threads cut a tensor.
//
// Floats are in a Buffer, where whole vectors can be read and written: past the end they hold zeros, which no largest
// magnitude notices. Codes past the end are not touched.
#pragma once

#include "cpu/optimizer_streams.h"
#include "math/quantize.h"

namespace fusednn {
inline namespace FNN_UNIT {

static_assert(kBlock == kRandomBlock && kBlock % kCodeBlock == 0 && kCodeBlock % kPerVector<float> == 0);

// whole(i) for the first elements of whole vectors among n, then rest(i, count) if there is a rest.
template <class Whole, class Rest>
FNN_INLINE void for_vectors(int64_t n, const Whole& whole, const Rest& rest) {
  int64_t i = 0;
#pragma GCC unroll 2
  for (; i + kPerVector<float> <= n; i += kPerVector<float>) whole(i);
  if (i < n) rest(i, static_cast<size_t>(n - i));
}

template <bool kIsSigned>
FNN_INLINE void load_code_block(const uint8_t* codes, float scale, int64_t n, float* to) {
  const auto put = [&](int64_t i, Bytes bytes) {
    store<float>(to, i, decoded_as<kIsSigned, Vector<float>>(unpacked(bytes), scale));
  };
  for_vectors(
      n, [&](int64_t i) { put(i, read<Bytes>(codes + i)); },
      [&](int64_t i, size_t count) {
        Bytes bytes{};
        __builtin_memcpy(&bytes, codes + i, count);
        put(i, bytes);
      });
}

FNN_ONE_COPY void load_codes(Codes code, const void* data, const void* scales, int64_t index, int64_t n, float* to) {
  const uint8_t* codes = static_cast<const uint8_t*>(data) + index;
  for (int64_t i = 0; i < n; i += kCodeBlock) {
    const int64_t length = n - i < kCodeBlock ? n - i : kCodeBlock;
    const float scale = scalar_at<float>(scales, (index + i) / kCodeBlock);
    if (code == Codes::kSigned) {
      load_code_block<true>(codes + i, scale, length, to + i);
    } else {
      load_code_block<false>(codes + i, scale, length, to + i);
    }
  }
}

// The bits of magnitudes are ordered as the magnitudes are, NaN last.
FNN_INLINE uint32_t largest_magnitude(const float* from, int64_t n) {
  Integers largest{};
  for (int64_t i = 0; i < n; i += kPerVector<float>) {
    const Integers magnitude = read<Integers>(from + i) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  // Pairwise: one after the other they would wait for each other.
  int32_t lanes[kPerVector<float>];
  __builtin_memcpy(lanes, &largest, sizeof lanes);
  for (int half = kPerVector<float> / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) lanes[k] = lanes[k + half] > lanes[k] ? lanes[k + half] : lanes[k];
  }
  return static_cast<uint32_t>(lanes[0]);
}

// `lane` is the first element's in its block of random bits.
template <bool kIsSigned>
FNN_INLINE void store_code_block(const float* from, uint32_t scale, int64_t n, uint8_t* codes, BlockKey key,
                                 int64_t lane) {
  const uint32_t origin = code_origin(scale, kIsSigned);
  const auto code_bytes = [&](int64_t i) {
    const Words random = random_bits_like(key, lane + i, Vector<float>{});
    return bytes_of(encoded<kIsSigned>(read<Words>(from + i), origin, random));
  };
  for_vectors(
      n,
      [&](int64_t i) {
        const Bytes bytes = code_bytes(i);
        __builtin_memcpy(codes + i, &bytes, sizeof bytes);
      },
      [&](int64_t i, size_t count) {
        const Bytes bytes = code_bytes(i);
        __builtin_memcpy(codes + i, &bytes, count);
      });
}

// One block of codes, or what there is of the last.
FNN_ONE_COPY void store_codes(Codes code, const float* from, int64_t n, void* data, void* scales, int64_t index,
                              BlockKey key) {
  uint8_t* codes = static_cast<uint8_t*>(data) + index;
  const uint32_t scale = scale_of(largest_magnitude(from, n));
  put_scalar(scales, index / kCodeBlock, bit_cast<float>(scale));
  if (scale == 0 || scale > 0x7f800000u) {
    __builtin_memset(codes, 0, static_cast<size_t>(n));
  } else if (code == Codes::kSigned) {
    store_code_block<true>(from, scale, n, codes, key, index % kRandomBlock);
  } else {
    store_code_block<false>(from, scale, n, codes, key, index % kRandomBlock);
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
