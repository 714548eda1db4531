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

typedef int32_t FourIntegers __attribute__((vector_size(16)));

// Without a way through memory: codes wait for it.
FNN_INLINE int32_t largest_lane(Integers v) {
  constexpr int kParts = kVectorBytes / 16;
  FourIntegers parts[kParts];
  __builtin_memcpy(parts, &v, sizeof v);
#pragma GCC unroll 4
  for (int k = 1; k < kParts; ++k) parts[0] = parts[k] > parts[0] ? parts[k] : parts[0];
  FourIntegers most = parts[0];
  const FourIntegers halves = __builtin_shufflevector(most, most, 2, 3, 0, 1);
  most = halves > most ? halves : most;
  return most[1] > most[0] ? most[1] : most[0];
}

// The bits of magnitudes are ordered as the magnitudes are, NaN last.
FNN_INLINE uint32_t largest_magnitude(const float* from, int64_t n) {
  Integers largest{};
  for (int64_t i = 0; i < n; i += kPerVector<float>) {
    const Integers magnitude = read<Integers>(from + i) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return static_cast<uint32_t>(largest_lane(largest));
}

// Codes of a vector of numbers. Few of a block's numbers lie below the first code of the signed ones: a vector that has
// none of them is not asked which of them become zero.
template <bool kIsSigned>
FNN_INLINE Words encoded_vector(Words bits, uint32_t origin, Words random) {
  if constexpr (kIsSigned) {
    if (!any(below_first(bits, origin))) return encoded_from_first<true>(bits, origin, random);
  }
  return encoded<kIsSigned>(bits, origin, random);
}

// `lane` is the first element's in its block of random bits.
template <bool kIsSigned>
FNN_INLINE void store_code_block(const float* from, uint32_t scale, int64_t n, uint8_t* codes, BlockKey key,
                                 int64_t lane) {
  const uint32_t origin = code_origin(scale, kIsSigned);
  Words places = first_place(key, lane);
  const auto code_words = [&](int64_t i) {
    const Words random = random_bits_at(key, places);
    places += static_cast<uint32_t>(kPerVector<float>);
    return encoded_vector<kIsSigned>(read<Words>(from + i), origin, random);
  };
  int64_t i = 0;
  for (; i + 4 * kPerVector<float> <= n; i += 4 * kPerVector<float>) {
    Words words[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) words[k] = code_words(i + k * kPerVector<float>);
    store_bytes(codes + i, words);
  }
  for (; i < n; i += kPerVector<float>) {
    const Bytes bytes = bytes_of(code_words(i));
    __builtin_memcpy(codes + i, &bytes, n - i < kPerVector<float> ? static_cast<size_t>(n - i) : sizeof bytes);
  }
}

// The bits of the scales of at most kBlock numbers, also to memory.
FNN_ONE_COPY void store_scales(const float* from, int64_t n, void* scales, int64_t index, uint32_t* bits) {
  for (int64_t i = 0; i < n; i += kCodeBlock) {
    const uint32_t scale = scale_of(largest_magnitude(from + i, n - i < kCodeBlock ? n - i : kCodeBlock));
    put_scalar(scales, (index + i) / kCodeBlock, bit_cast<float>(scale));
    bits[i / kCodeBlock] = scale;
  }
}

// One block of codes, or what there is of the last.
FNN_ONE_COPY void store_codes(Codes code, const float* from, uint32_t scale, int64_t n, void* data, int64_t index,
                              BlockKey key) {
  uint8_t* codes = static_cast<uint8_t*>(data) + index;
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
