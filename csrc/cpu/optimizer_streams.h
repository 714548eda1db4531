// Streams: arrays whose storage type is known at run time only, read and written by vectors, or by scalars where a
// vector is too much. A choice between types is a branch that goes the same way for a whole tensor.
#pragma once

#include "core/problem.h"
#include "cpu/vectors.h"
#include "math/stochastic_rounding.h"

namespace fusednn {
inline namespace FNN_UNIT {

// A stream that starts with the element at `index`.
FNN_INLINE Stream stream_from(const Stream& stream, int64_t index) {
  if (stream.data == nullptr) return stream;
  const auto size = with_dtype(stream.dtype, [](auto tag) { return static_cast<int64_t>(sizeof(tag)); });
  return {static_cast<char*>(stream.data) + index * size, stream.dtype};
}

// Asks for n elements from `index` on.
FNN_INLINE void fetch_stream(const Stream& stream, int64_t index, int64_t n) {
  const char* at = static_cast<const char*>(stream_from(stream, index).data);
  const auto bytes = static_cast<const char*>(stream_from(stream, index + n).data) - at;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}

template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

// The storage type of streams each of which says its own.
struct AnyType {};

// A scalar of a stream of any type: what is left after whole vectors is not worth a copy for each stream.
template <class C>
FNN_ONE_COPY C any_scalar(const Stream& stream, int64_t index) {
  if (stream.dtype == DType::kBFloat16) return load_scalar<BFloat16>(stream.data, index);
  if (stream.dtype == DType::kFloat16) return load_scalar<Float16>(stream.data, index);
  return load_scalar<C>(stream.data, index);
}
template <class C>
FNN_ONE_COPY void put_any_scalar(const Stream& stream, int64_t index, C value) {
  if (stream.dtype == DType::kBFloat16) return store_scalar<BFloat16>(stream.data, index, value);
  if (stream.dtype == DType::kFloat16) return store_scalar<Float16>(stream.data, index, value);
  store_scalar<C>(stream.data, index, value);
}

// Elements from `index` on as V, a vector or a scalar of C, of a stream of type T.
template <class T, class C, class V>
FNN_INLINE V load_stream(const Stream& stream, int64_t index, const V& like) {
  if constexpr (!is_same<T, AnyType>) {
    return load_like<T>(stream.data, index, like);
  } else if constexpr (is_same<V, C>) {
    return any_scalar<C>(stream, index);
  } else {
    if (stream.dtype == DType::kBFloat16) return load_like<BFloat16>(stream.data, index, like);
    if (stream.dtype == DType::kFloat16) return load_like<Float16>(stream.data, index, like);
    return load_like<C>(stream.data, index, like);
  }
}

template <class T, class C, class V>
FNN_INLINE void store_stream(const Stream& stream, int64_t index, V v) {
  if constexpr (!is_same<T, AnyType>) {
    store_like<T>(stream.data, index, v);
  } else if constexpr (is_same<V, C>) {
    put_any_scalar<C>(stream, index, v);
  } else {
    if (stream.dtype == DType::kBFloat16) return store_like<BFloat16>(stream.data, index, v);
    if (stream.dtype == DType::kFloat16) return store_like<Float16>(stream.data, index, v);
    store_like<C>(stream.data, index, v);
  }
}

// `first` and the numbers after it.
FNN_INLINE Words lanes_from(int64_t first) {
  Words lane{};
  for (uint32_t k = 0; k < kPerVector<float>; ++k) lane[k] = k;
  return lane + static_cast<uint32_t>(first);
}

// Where the sequence of a block's random bits is for the elements from `index` on, a number each: it goes up by the
// elements that follow.
FNN_INLINE Words first_place(BlockKey key, int64_t index) { return lanes_from(index + key.offset); }
FNN_INLINE Words random_bits_at(BlockKey key, Words places) { return random_bits(BlockKey{0, key.twist}, places); }

// Random bits for the elements from `index` on, as many as V has.
FNN_INLINE Words random_bits_like(BlockKey key, int64_t index, const Vector<float>& /*like*/) {
  return random_bits_at(key, first_place(key, index));
}
FNN_INLINE uint32_t random_bits_like(BlockKey key, int64_t index, float /*like*/) {
  return random_bits(key, static_cast<uint32_t>(index));
}

// bfloat16 rounded at random. `index` counts from the start of a block of random bits.
FNN_INLINE void store_stochastic(void* base, int64_t index, Vector<float> v, BlockKey key) {
  const Words bits = bfloat16_stochastic(v, random_bits_like(key, index, v));
  const Halves halves = packed(bits);
  __builtin_memcpy(element<BFloat16>(base, index), &halves, sizeof halves);
}
FNN_ONE_COPY void store_stochastic(void* base, int64_t index, float value, BlockKey key) {
  const BFloat16 narrowed = narrow_stochastic(value, random_bits_like(key, index, value));
  __builtin_memcpy(element<BFloat16>(base, index), &narrowed, sizeof narrowed);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
