// Vectors of the type of computation, as long as the machine's, and their way from and to memory of a storage type:
// misaligned, or past the caches. Sums of a row of elements are in lanes.h.
#pragma once

#include "cpu/blocks.h"

namespace fusednn {
inline namespace FNN_UNIT {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class C>
constexpr int kPerVector = kVectorBytes / sizeof(C);

template <class C>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};
template <class C>
using Vector = typename VectorOf<C>::type;

typedef uint32_t Words __attribute__((vector_size(kVectorBytes)));
typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes / 4)));

// V from memory, whatever its alignment.
template <class V>
FNN_INLINE V read(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// Between 16 and 32 bits an element; what is packed is below 2^16. g++ 12 makes up to three times as many instructions of
// __builtin_convertvector, and takes the unset registers of AVX-512's plain intrinsics for a mistake: those here and
// below are masked, with nothing masked out.
FNN_INLINE Words unpacked(Halves bits) {
#if defined(__AVX512F__)
  return bit_cast<Words>(_mm512_maskz_cvtepu16_epi32(__mmask16{0xffff}, bit_cast<__m256i>(bits)));
#elif defined(__AVX2__)
  return bit_cast<Words>(_mm256_cvtepu16_epi32(bit_cast<__m128i>(bits)));
#elif defined(__x86_64__)
  return bit_cast<Words>(_mm_unpacklo_epi16(_mm_cvtsi64_si128(bit_cast<long long>(bits)), _mm_setzero_si128()));
#else
  return __builtin_convertvector(bits, Words);
#endif
}
FNN_INLINE Halves packed(Words bits) {
#if defined(__AVX512F__)
  return bit_cast<Halves>(_mm512_maskz_cvtepi32_epi16(__mmask16{0xffff}, bit_cast<__m512i>(bits)));
#elif defined(__AVX2__)
  const __m256i v = bit_cast<__m256i>(bits);
  return bit_cast<Halves>(_mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 8)));
#elif defined(__SSE4_1__)
  const __m128i v = bit_cast<__m128i>(bits);
  return bit_cast<Halves>(_mm_cvtsi128_si64(_mm_packus_epi32(v, v)));
#elif defined(__x86_64__)
  // Packing saturates signed numbers: these have 16 bits and a sign that is one of them.
  const __m128i v = _mm_srai_epi32(_mm_slli_epi32(bit_cast<__m128i>(bits), 16), 16);
  return bit_cast<Halves>(_mm_cvtsi128_si64(_mm_packs_epi32(v, v)));
#else
  return __builtin_convertvector(bits, Halves);
#endif
}

// Between 8 and 32 bits, likewise; what is packed is below 2^8.
FNN_INLINE Words unpacked(Bytes bytes) {
#if defined(__AVX512F__)
  return bit_cast<Words>(_mm512_maskz_cvtepu8_epi32(__mmask16{0xffff}, bit_cast<__m128i>(bytes)));
#elif defined(__AVX2__)
  return bit_cast<Words>(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bit_cast<long long>(bytes))));
#elif defined(__x86_64__)
  const __m128i zero = _mm_setzero_si128();
  const __m128i halves = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bit_cast<int>(bytes)), zero);
  return bit_cast<Words>(_mm_unpacklo_epi16(halves, zero));
#else
  return __builtin_convertvector(bytes, Words);
#endif
}
FNN_INLINE Bytes bytes_of(Words values) {
#if defined(__AVX512F__)
  return bit_cast<Bytes>(_mm512_maskz_cvtepi32_epi8(__mmask16{0xffff}, bit_cast<__m512i>(values)));
#elif defined(__AVX2__)
  const __m128i halves = bit_cast<__m128i>(packed(values));
  return bit_cast<Bytes>(_mm_cvtsi128_si64(_mm_packus_epi16(halves, halves)));
#elif defined(__x86_64__)
  // Below 2^15, so that signed saturation changes nothing.
  const __m128i v = bit_cast<__m128i>(values);
  const __m128i halves = _mm_packs_epi32(v, v);
  return bit_cast<Bytes>(_mm_cvtsi128_si32(_mm_packus_epi16(halves, halves)));
#else
  return __builtin_convertvector(values, Bytes);
#endif
}

FNN_INLINE Vector<float> widen(Halves bits, BFloat16) { return float_of_bfloat16<Vector<float>>(unpacked(bits)); }

// The bytes of four vectors one after the other, at once.
FNN_INLINE void store_bytes(void* to, const Words (&values)[4]) {
#if defined(__AVX512F__)
  const auto pairs = [&values](int k) {
    return _mm512_packus_epi32(bit_cast<__m512i>(values[k]), bit_cast<__m512i>(values[k + 1]));
  };
  // Packing keeps to quarters of a vector.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes =
      _mm512_maskz_permutexvar_epi32(__mmask16{0xffff}, order, _mm512_packus_epi16(pairs(0), pairs(2)));
  __builtin_memcpy(to, &bytes, sizeof bytes);
#elif defined(__AVX2__)
  const auto pairs = [&values](int k) {
    return _mm256_packus_epi32(bit_cast<__m256i>(values[k]), bit_cast<__m256i>(values[k + 1]));
  };
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(pairs(0), pairs(2)), order);
  __builtin_memcpy(to, &bytes, sizeof bytes);
#else
  for (int k = 0; k < 4; ++k) {
    const Bytes bytes = bytes_of(values[k]);
    __builtin_memcpy(static_cast<char*>(to) + k * sizeof bytes, &bytes, sizeof bytes);
  }
#endif
}

// A machine's own conversion to bfloat16 flushes subnormal numbers and keeps what a NaN carries: it has the formula's bits
// where there is neither. No level of x86-64 has it, so that it is asked for here and not by the compiler's flags.
FNN_INLINE Halves narrow(Vector<float> v, BFloat16) {
#if defined(__AVX512F__)
  constexpr int kSubnormalOrNan = 0xa1;
  if (__builtin_cpu_supports("avx512bf16") && _mm512_fpclass_ps_mask(bit_cast<__m512>(v), kSubnormalOrNan) == 0) {
    __m256i halves;
    asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(v));  // NOLINT(portability-no-assembler): see above
    return bit_cast<Halves>(halves);
  }
#endif
  return packed(bfloat16_of_float<Words>(v));
}

// The machine's own conversion where it has one; it rounds as the formula does.
FNN_INLINE Vector<float> widen(Halves bits, Float16) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vector<float>>(_mm512_maskz_cvtph_ps(__mmask16{0xffff}, bit_cast<__m256i>(bits)));
#elif defined(__F16C__) && defined(__AVX2__)
  return reinterpret_cast<Vector<float>>(_mm256_cvtph_ps(bit_cast<__m128i>(bits)));
#else
  return float_of_float16<Vector<float>>(unpacked(bits));
#endif
}
FNN_INLINE Halves narrow(Vector<float> v, Float16) {
#if defined(__AVX512F__)
  return bit_cast<Halves>(
      _mm512_maskz_cvtps_ph(__mmask16{0xffff}, bit_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__) && defined(__AVX2__)
  return bit_cast<Halves>(_mm256_cvtps_ph(bit_cast<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
#else
  return packed(float16_of_float<Words>(v));
#endif
}

// Whether a comparison is true of any lane.
FNN_INLINE bool any(Integers comparison) {
#if defined(__AVX512F__)
  const __m512i lanes = bit_cast<__m512i>(comparison);
  return _mm512_test_epi32_mask(lanes, lanes) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(bit_cast<__m256i>(comparison)) != 0;
#elif defined(__x86_64__)
  return _mm_movemask_epi8(bit_cast<__m128i>(comparison)) != 0;
#else
  int32_t seen = 0;
  for (int k = 0; k < kPerVector<float>; ++k) seen |= comparison[k];
  return seen != 0;
#endif
}

template <>
struct FloatOfInteger<Words> {
  static FNN_INLINE Vector<float> of(Words x) {
    return __builtin_convertvector(reinterpret_cast<Integers>(x), Vector<float>);
  }
};

template <>
struct SquareRoot<Vector<float>> {
  static FNN_INLINE Vector<float> of(Vector<float> x) {
#if defined(__AVX512F__)
    return reinterpret_cast<Vector<float>>(_mm512_maskz_sqrt_ps(__mmask16{0xffff}, bit_cast<__m512>(x)));
#elif defined(__AVX2__)
    return reinterpret_cast<Vector<float>>(_mm256_sqrt_ps(bit_cast<__m256>(x)));
#elif defined(__x86_64__)
    return reinterpret_cast<Vector<float>>(_mm_sqrt_ps(bit_cast<__m128>(x)));
#else
    for (int k = 0; k < kPerVector<float>; ++k) x[k] = sqrtf(x[k]);
    return x;
#endif
  }
};
template <>
struct SquareRoot<Vector<double>> {
  static FNN_INLINE Vector<double> of(Vector<double> x) {
#if defined(__AVX512F__)
    return reinterpret_cast<Vector<double>>(_mm512_maskz_sqrt_pd(__mmask8{0xff}, bit_cast<__m512d>(x)));
#elif defined(__AVX2__)
    return reinterpret_cast<Vector<double>>(_mm256_sqrt_pd(bit_cast<__m256d>(x)));
#elif defined(__x86_64__)
    return reinterpret_cast<Vector<double>>(_mm_sqrt_pd(bit_cast<__m128d>(x)));
#else
    for (int k = 0; k < kPerVector<double>; ++k) x[k] = sqrt(x[k]);
    return x;
#endif
  }
};

// What a vector of C looks like in memory of storage type T.
template <class T>
struct Packed {
  using type = Vector<T>;
  static FNN_INLINE type from(Vector<T> v) { return v; }
  static FNN_INLINE Vector<T> to(type v) { return v; }
};
template <class T>
struct PackedHalves {
  using type = Halves;
  static FNN_INLINE type from(Vector<float> v) { return narrow(v, T{}); }
  static FNN_INLINE Vector<float> to(type v) { return widen(v, T{}); }
};
template <>
struct Packed<Float16> : PackedHalves<Float16> {};
template <>
struct Packed<BFloat16> : PackedHalves<BFloat16> {};

template <class T>
FNN_INLINE Vector<Compute<T>> load(const void* base, int64_t index) {
  return Packed<T>::to(read<typename Packed<T>::type>(element<T>(base, index)));
}

template <class T>
FNN_INLINE void store(void* base, int64_t index, Vector<Compute<T>> v) {
  const typename Packed<T>::type packed = Packed<T>::from(v);
  __builtin_memcpy(element<T>(base, index), &packed, sizeof packed);
}

// Past the caches, to an address that is a multiple of the packed vector's size: memory is written without being read.
template <class T>
FNN_INLINE void stream(void* base, int64_t index, Vector<Compute<T>> v) {
  const typename Packed<T>::type packed = Packed<T>::from(v);
  char* p = element<T>(base, index);
#if defined(__AVX512F__)
  if constexpr (sizeof packed == 64)
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bit_cast<__m512i>(packed));
#endif
#if defined(__AVX__)
  if constexpr (sizeof packed == 32)
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bit_cast<__m256i>(packed));
#endif
#if defined(__x86_64__)
  if constexpr (sizeof packed == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(p), bit_cast<__m128i>(packed));
  if constexpr (sizeof packed == 8)
    return _mm_stream_si64(reinterpret_cast<long long*>(p), bit_cast<long long>(packed));
#endif
  __builtin_memcpy(p, &packed, sizeof packed);
}

template <class T>
FNN_INLINE Compute<T> load_scalar(const void* base, int64_t index) {
  return widen(read<T>(element<T>(base, index)));
}

template <class T>
FNN_INLINE void store_scalar(void* base, int64_t index, Compute<T> value) {
  const T narrowed = narrow<T>(value);
  __builtin_memcpy(element<T>(base, index), &narrowed, sizeof narrowed);
}

// A vector, or a scalar where V is one.
template <class T, class V>
FNN_INLINE void store_like(void* base, int64_t index, V v) {
  if constexpr (sizeof(V) == kVectorBytes) {
    store<T>(base, index, v);
  } else {
    store_scalar<T>(base, index, v);
  }
}

// A vector, or a scalar where `like` is one.
template <class T, class V>
FNN_INLINE V load_like(const void* base, int64_t index, const V& /*like*/) {
  if constexpr (sizeof(V) == kVectorBytes) {
    return load<T>(base, index);
  } else {
    return load_scalar<T>(base, index);
  }
}

// Elements before the first one at a cache line's start; all of them where none can be.
template <class T>
FNN_INLINE int64_t elements_to_line(const void* base, int64_t index, int64_t n) {
  const auto bytes = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(element<T>(base, index)) & 63);
  const int64_t head = bytes % static_cast<int64_t>(sizeof(T)) == 0 ? bytes / static_cast<int64_t>(sizeof(T)) : n;
  return head < n ? head : n;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
