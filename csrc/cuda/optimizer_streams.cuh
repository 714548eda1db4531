// A lane's elements of a tensor's streams: read, widened, narrowed and written, whatever their storage type.
//
// Types are chosen at run time by branches that a whole warp takes together. Reading and widening are apart, so that all
// streams are under way before the first is waited for. Vectors that are whole and aligned are one access, others one for
// each element, without a loop: a loop would wait for memory at every turn.
#pragma once

#include "cuda/optimizer_table.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

// Where a lane's elements are: kVectors times kPerLane, of which the first `valid` lie in the tensor.
struct LanePlace {
  int64_t unit;   // the unit's first element
  int64_t index;  // the lane's first
  int valid[kVectors];

  FNN_DEVICE LanePlace(int64_t unit_begin, int64_t count)
      : unit(unit_begin), index(unit_begin + static_cast<int>(threadIdx.x % kWarp) * kPerLane) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t left = count - vector(v);
      valid[v] = left >= kPerLane ? kPerLane : left > 0 ? static_cast<int>(left) : 0;
    }
  }
  FNN_DEVICE int64_t vector(int v) const { return index + v * kWarp * kPerLane; }
  // The element's number in its block of random bits.
  FNN_DEVICE uint32_t in_random_block(int v, int j) const {
    return static_cast<uint32_t>(vector(v) % kRandomBlock) + static_cast<uint32_t>(j);
  }
};

// Elements as they lie in memory, in words of the type of computation's size: of shorter elements the first words.
template <class C>
struct Raw;
template <>
struct Raw<float> {
  uint32_t word[kVectors][4];
};
template <>
struct Raw<double> {
  uint64_t word[kVectors][4];
};

template <int kBytes>
struct ElementBits;
template <>
struct ElementBits<1> {
  using type = unsigned char;
};
template <>
struct ElementBits<2> {
  using type = unsigned short;
};
template <>
struct ElementBits<4> {
  using type = unsigned;
};
template <>
struct ElementBits<8> {
  using type = unsigned long long;
};

// One vector of kPerLane elements of kBytes.
template <int kBytes, class Word>
FNN_DEVICE void load_vector(const char* p, bool whole, int valid, Word (&w)[4]) {
  using Bits = typename ElementBits<kBytes>::type;
  __builtin_assume(__isGlobal(p));
  if (whole) {
    if constexpr (kBytes == 8) {
      const auto* from = reinterpret_cast<const ulonglong2*>(p);
      const ulonglong2 low = __ldcs(from), high = __ldcs(from + 1);
      w[0] = low.x, w[1] = low.y, w[2] = high.x, w[3] = high.y;
    } else if constexpr (kBytes == 4) {
      const uint4 v = __ldcs(reinterpret_cast<const uint4*>(p));
      w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    } else if constexpr (kBytes == 2) {
      const uint2 v = __ldcs(reinterpret_cast<const uint2*>(p));
      w[0] = v.x, w[1] = v.y;
    } else {
      w[0] = __ldcs(reinterpret_cast<const unsigned*>(p));
    }
    return;
  }
  constexpr int kInWord = kBytes < 4 ? 4 / kBytes : 1;
  const auto* from = reinterpret_cast<const Bits*>(p);
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    if (j < valid) w[j / kInWord] |= Word{load_element(from + j)} << (j % kInWord * kBytes * 8);
  }
}

template <int kBytes, class Word>
FNN_DEVICE void store_vector(char* p, bool whole, int valid, const Word (&w)[4]) {
  using Bits = typename ElementBits<kBytes>::type;
  __builtin_assume(__isGlobal(p));
  if (whole) {
    if constexpr (kBytes == 8) {
      auto* to = reinterpret_cast<ulonglong2*>(p);
      __stcs(to, make_ulonglong2(w[0], w[1]));
      __stcs(to + 1, make_ulonglong2(w[2], w[3]));
    } else if constexpr (kBytes == 4) {
      __stcs(reinterpret_cast<uint4*>(p), make_uint4(w[0], w[1], w[2], w[3]));
    } else if constexpr (kBytes == 2) {
      __stcs(reinterpret_cast<uint2*>(p), make_uint2(w[0], w[1]));
    } else {
      __stcs(reinterpret_cast<unsigned*>(p), w[0]);
    }
    return;
  }
  constexpr int kInWord = kBytes < 4 ? 4 / kBytes : 1;
  auto* to = reinterpret_cast<Bits*>(p);
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    if (j < valid) store_element(to + j, static_cast<Bits>(w[j / kInWord] >> (j % kInWord * kBytes * 8)));
  }
}

template <int kBytes, class C>
FNN_DEVICE void load_vectors(const DeviceStream& s, const LanePlace& at, Raw<C>& to) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (at.valid[v] == 0) continue;
    const bool whole = s.aligned != 0 && at.valid[v] == kPerLane;
    load_vector<kBytes>(s.data + at.vector(v) * kBytes, whole, at.valid[v], to.word[v]);
  }
}
template <int kBytes, class C>
FNN_DEVICE void store_vectors(const DeviceStream& s, const LanePlace& at, const Raw<C>& from) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (at.valid[v] == 0) continue;
    const bool whole = s.aligned != 0 && at.valid[v] == kPerLane;
    store_vector<kBytes>(s.data + at.vector(v) * kBytes, whole, at.valid[v], from.word[v]);
  }
}

// Zeros where the stream is absent, and past the tensor's end.
template <Codes kCodes, class C>
FNN_DEVICE void load_stream(const DeviceStream& s, const LanePlace& at, Raw<C>& to) {
  to = {};
  if constexpr (sizeof(C) == 8) {
    if (s.element_bytes == 8) load_vectors<8>(s, at, to);
  } else if (s.element_bytes == 4) {
    load_vectors<4>(s, at, to);
  } else if (s.element_bytes == 2) {
    load_vectors<2>(s, at, to);
  } else if (kCodes != Codes::kNone && s.element_bytes == 1) {
    load_vectors<1>(s, at, to);
  }
}

// As elements of the type of computation. `scale` is that of codes.
template <Codes kCodes, class C>
FNN_DEVICE void widen_stream(const DeviceStream& s, const Raw<C>& raw, float scale, C (&to)[kLaneElements]) {
  [[maybe_unused]] const Storage storage = s.storage;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const auto& w = raw.word[v];
    C* e = to + v * kPerLane;
    if constexpr (sizeof(C) == 8) {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) e[j] = bit_cast<C>(w[j]);
    } else if (storage == Storage::kBFloat16) {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) e[j] = bit_cast<float>(j % 2 == 0 ? w[j / 2] << 16 : w[j / 2] & 0xffff0000u);
    } else if (storage == Storage::kFloat16) {
#pragma unroll
      for (int j = 0; j < kPerLane; j += 2) widen_float16_pair(w[j / 2], e[j], e[j + 1]);
    } else if (kCodes != Codes::kNone && storage == Storage::kCodes) {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        e[j] = decoded<kCodes == Codes::kSigned>(static_cast<uint8_t>(w[0] >> (8 * j)), scale);
      }
    } else {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) e[j] = bit_cast<float>(w[j]);
    }
  }
}

// How a stream of a tensor is rounded: `number` is the stream's in the keys of random bits.
struct Rounding {
  bool stochastic;
  uint64_t tensor_key;
  int32_t number;

  FNN_DEVICE BlockKey key(const LanePlace& at) const { return block_key(tensor_key, number, at.unit / kRandomBlock); }
};

// Codes and scale of a unit: all lanes of the warp come here.
template <bool kSigned>
FNN_DEVICE void store_codes(const DeviceStream& s, float* scales, const LanePlace& at,
                            const float (&from)[kLaneElements], const Rounding& rounding) {
  // The bits of magnitudes are ordered as the magnitudes are, NaN last.
  uint32_t largest = 0;
#pragma unroll
  for (int e = 0; e < kLaneElements; ++e) {
    const uint32_t magnitude = bit_cast<uint32_t>(from[e]) & 0x7fffffffu;
    if (e % kPerLane < at.valid[e / kPerLane] && magnitude > largest) largest = magnitude;
  }
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const uint32_t other = __shfl_xor_sync(kWholeWarp, largest, distance);
    largest = other > largest ? other : largest;
  }
  const uint32_t scale = scale_of(largest);
  __syncwarp();  // all lanes have read the scale of before
  // The first element is the unit's.
  if (threadIdx.x % kWarp == 0 && at.valid[0] > 0) scales[at.unit / kCodeBlock] = bit_cast<float>(scale);
  const bool coded = scale != 0 && scale <= 0x7f800000u;
  const uint32_t origin = code_origin(scale, kSigned);
  const BlockKey key = rounding.key(at);
  Raw<float> raw{};
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      const uint32_t random = random_bits(key, at.in_random_block(v, j));
      const uint32_t code = encoded<kSigned>(bit_cast<uint32_t>(from[v * kPerLane + j]), origin, random);
      raw.word[v][0] |= (coded ? code : 0u) << (8 * j);
    }
  }
  store_vectors<1>(s, at, raw);
}

template <Codes kCodes, class C>
FNN_DEVICE void store_stream(const DeviceStream& s, [[maybe_unused]] float* scales, const LanePlace& at,
                             const C (&from)[kLaneElements], [[maybe_unused]] const Rounding& rounding) {
  Raw<C> raw{};
  if constexpr (sizeof(C) == 8) {
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) raw.word[e / kPerLane][e % kPerLane] = bit_cast<uint64_t>(from[e]);
    if (s.element_bytes == 8) store_vectors<8>(s, at, raw);
  } else {
    const Storage storage = s.storage;
    if (storage == Storage::kFloat32) {
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) raw.word[e / kPerLane][e % kPerLane] = bit_cast<uint32_t>(from[e]);
      store_vectors<4>(s, at, raw);
    } else if (storage == Storage::kBFloat16 || storage == Storage::kFloat16) {
      if (storage == Storage::kFloat16) {
#pragma unroll
        for (int e = 0; e < kLaneElements; e += 2) {
          raw.word[e / kPerLane][e % kPerLane / 2] = narrow_float16_pair(from[e], from[e + 1]);
        }
      } else if (rounding.stochastic) {
        const BlockKey key = rounding.key(at);
#pragma unroll
        for (int e = 0; e < kLaneElements; ++e) {
          const uint32_t random = random_bits(key, at.in_random_block(e / kPerLane, e % kPerLane));
          raw.word[e / kPerLane][e % kPerLane / 2] |= uint32_t{narrow_stochastic(from[e], random).bits} << (e % 2 * 16);
        }
      } else {
#pragma unroll
        for (int e = 0; e < kLaneElements; e += 2) {
          raw.word[e / kPerLane][e % kPerLane / 2] = narrow_bfloat16_pair(from[e], from[e + 1]);
        }
      }
      store_vectors<2>(s, at, raw);
    } else if constexpr (kCodes != Codes::kNone) {
      if (storage == Storage::kCodes) store_codes<kCodes == Codes::kSigned>(s, scales, at, from, rounding);
    }
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
