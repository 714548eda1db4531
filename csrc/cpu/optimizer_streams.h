// Streams: arrays whose storage type is known at run time only, read and written a block at a time.
#pragma once

#include "core/problem.h"
#include "cpu/blocks.h"
#include "cpu/state_codes.h"

namespace fusednn {
inline namespace FNN_UNIT {

// A stream's block as an array of C, in place where it can be. Streams choose their type at run time.
template <class C>
inline C* open_stream(const Stream& stream, int64_t index, int64_t n, Buffer<C>& buffer) {
  return with_dtype(stream.dtype, [&](auto tag) -> C* {
    using T = decltype(tag);
    if constexpr (sizeof(Compute<T>) != sizeof(C)) {
      // A float32 or shorter gradient of a float64 parameter is refused by core/.
      return buffer.data;
    } else {
      char* p = element<T>(stream.data, index);
      if (direct<T, C>(p)) return reinterpret_cast<C*>(p);
      convert_in<T>(stream.data, index, n, buffer.data);
      return buffer.data;
    }
  });
}

template <class C>
inline void close_stream(const Stream& stream, int64_t index, int64_t n, const C* block) {
  with_dtype(stream.dtype, [&](auto tag) {
    using T = decltype(tag);
    if constexpr (sizeof(Compute<T>) == sizeof(C)) {
      if (reinterpret_cast<const char*>(block) != element<T>(stream.data, index)) {
        convert_out<T>(block, n, stream.data, index);
      }
    }
  });
}

// How a tensor's streams are rounded: its key for random bits, and whether bfloat16 is rounded with them.
struct Rounding {
  bool stochastic;
  uint64_t key;

  BlockKey block(int32_t stream, int64_t index) const { return block_key(key, stream, index / kBlock); }
};

// As above, for what the next step reads again. `number` is the stream's in the keys of random bits.
template <class C>
inline void close_stream(const Stream& stream, int64_t index, int64_t n, const C* block, const Rounding& rounding,
                         int32_t number) {
  if constexpr (sizeof(C) == sizeof(float)) {
    if (rounding.stochastic && stream.dtype == DType::kBFloat16) {
      return store_stochastic(block, n, stream.data, index, rounding.block(number, index));
    }
  }
  close_stream(stream, index, n, block);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
