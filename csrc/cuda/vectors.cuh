// 16-byte vectors of a storage type, and the windows of an array that they are read and written through.
//
// Window w of an array is its elements [w * kPerVector, (w + 1) * kPerVector): counted from the array's first element, so
// that results do not depend on where it lies. A window is one access of 16 bytes where the array is aligned and the
// window lies within it; elsewhere, and where only some of a window's elements are to be written, single elements are.
#pragma once

#include "cuda/launch.h"
#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class T>
constexpr int kPerVector = 16 / sizeof(T);

// Elements that share a 32-bit word are converted together.
template <class T>
constexpr int kTogether = sizeof(T) == 2 ? 2 : 1;
template <class T>
constexpr int kGroups = kPerVector<T> / kTogether<T>;

// Elements that the machine converts in pairs, low bits first: as math/scalar.h does, except for the bits of a NaN.
FNN_DEVICE void widen_pair(uint32_t bits, BFloat16, float (&to)[2]) {
  to[0] = bit_cast<float>(bits << 16);
  to[1] = bit_cast<float>(bits & 0xffff0000u);
}
FNN_DEVICE void widen_pair(uint32_t bits, Float16, float (&to)[2]) { widen_float16_pair(bits, to[0], to[1]); }
FNN_DEVICE uint32_t narrow_pair(const float (&from)[2], BFloat16) { return narrow_bfloat16_pair(from[0], from[1]); }
FNN_DEVICE uint32_t narrow_pair(const float (&from)[2], Float16) { return narrow_float16_pair(from[0], from[1]); }

// Group g of a vector: elements [g * kTogether, (g + 1) * kTogether).
template <class T>
FNN_DEVICE void unpack(const Bytes16& v, int g, Compute<T> (&to)[kTogether<T>]) {
  if constexpr (sizeof(T) == 2) {
    widen_pair(v.word[g], T{}, to);
  } else if constexpr (sizeof(T) == 4) {
    to[0] = bit_cast<T>(v.word[g]);
  } else {
    to[0] = bit_cast<T>(uint64_t{v.word[2 * g]} | uint64_t{v.word[2 * g + 1]} << 32);
  }
}
template <class T>
FNN_DEVICE void pack(Bytes16& v, int g, const Compute<T> (&from)[kTogether<T>]) {
  if constexpr (sizeof(T) == 2) {
    v.word[g] = narrow_pair(from, T{});
  } else if constexpr (sizeof(T) == 4) {
    v.word[g] = bit_cast<uint32_t>(from[0]);
  } else {
    const auto bits = bit_cast<uint64_t>(from[0]);
    v.word[2 * g] = static_cast<uint32_t>(bits);
    v.word[2 * g + 1] = static_cast<uint32_t>(bits >> 32);
  }
}

// A bit for each element of a window.
template <class T>
constexpr uint32_t kAllElements = (1u << kPerVector<T>)-1u;

// Elements [begin, end) of a window, of those that it has.
template <class T>
FNN_DEVICE uint32_t elements_within(int64_t begin, int64_t end) {
  constexpr int64_t kCount = kPerVector<T>;
  const auto low = static_cast<uint32_t>(begin < 0 ? 0 : begin > kCount ? kCount : begin);
  const auto high = static_cast<uint32_t>(end < 0 ? 0 : end > kCount ? kCount : end);
  return ((1u << high) - 1u) & ~((1u << low) - 1u);
}

// v with zeros for the elements that are not chosen.
template <class T>
FNN_DEVICE Bytes16 only(const Bytes16& v, uint32_t chosen) {
  Bytes16 result;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    uint32_t bits;
    if constexpr (sizeof(T) == 2) {
      bits = (chosen >> (2 * w) & 1u) * 0xffffu | (chosen >> (2 * w + 1) & 1u) * 0xffff0000u;
    } else {
      bits = 0u - (chosen >> (sizeof(T) == 4 ? w : w / 2) & 1u);
    }
    result.word[w] = v.word[w] & bits;
  }
  return result;
}

// A window from an element's index on, and which of its elements are meant: none outside the array.
struct Window {
  int64_t index;
  uint32_t chosen;
};

// An array of `count` elements, each aligned to its own size. `crowded`: while a window is read, others may write elements
// of it that are not chosen.
template <class T>
struct Array {
  char* data;
  bool aligned;
  int64_t last;  // the last window of which a part may be meant and all be read; negative: there is none

  FNN_INLINE Array(const void* base, int64_t count, bool crowded)
      : data(static_cast<char*>(const_cast<void*>(base))),
        aligned(reinterpret_cast<uintptr_t>(base) % 16 == 0),
        last(aligned && !crowded ? count - kPerVector<T> : -1) {}

  FNN_DEVICE Bytes16* at(int64_t index) const {
    return reinterpret_cast<Bytes16*>(data + index * static_cast<int64_t>(sizeof(T)));
  }
  // Whether a window of which something is meant can be read at once. Without branches, as is all that is done for each.
  FNN_DEVICE bool whole(const Window& w) const {
    const bool all = w.chosen == kAllElements<T>;
    return (aligned & all) | (w.index <= last);
  }

  // Its chosen elements, one by one; zeros for the others.
  FNN_DEVICE Bytes16 read_elements(const Window& w) const {
    using Bits = typename BitsOf<sizeof(T)>::type;
    const auto* from = reinterpret_cast<const Bits*>(at(w.index));
    Bytes16 v{};
#pragma unroll
    for (int j = 0; j < kPerVector<T>; ++j) {
      if (w.chosen >> j & 1u) put_bits(v, j, load_element(from + j));
    }
    return v;
  }
  FNN_DEVICE void write_elements(const Window& w, const Bytes16& v) const {
    using Bits = typename BitsOf<sizeof(T)>::type;
    auto* to = reinterpret_cast<Bits*>(at(w.index));
#pragma unroll
    for (int j = 0; j < kPerVector<T>; ++j) {
      if (w.chosen >> j & 1u) store_element(to + j, bits_of<Bits>(v, j));
    }
  }

 private:
  template <int kBytes, class Unused = void>
  struct BitsOf {
    using type = uint32_t;
  };
  template <class Unused>
  struct BitsOf<2, Unused> {
    using type = uint16_t;
  };
  template <class Unused>
  struct BitsOf<8, Unused> {
    using type = uint64_t;
  };

  static FNN_DEVICE void put_bits(Bytes16& v, int j, uint16_t bits) {
    v.word[j / 2] |= static_cast<uint32_t>(bits) << (j % 2 * 16);
  }
  static FNN_DEVICE void put_bits(Bytes16& v, int j, uint32_t bits) { v.word[j] = bits; }
  static FNN_DEVICE void put_bits(Bytes16& v, int j, uint64_t bits) {
    v.word[2 * j] = static_cast<uint32_t>(bits);
    v.word[2 * j + 1] = static_cast<uint32_t>(bits >> 32);
  }
  template <class Bits>
  static FNN_DEVICE Bits bits_of(const Bytes16& v, int j) {
    if constexpr (sizeof(Bits) == 2) {
      return static_cast<Bits>(v.word[j / 2] >> (j % 2 * 16));
    } else if constexpr (sizeof(Bits) == 4) {
      return v.word[j];
    } else {
      return uint64_t{v.word[2 * j]} | uint64_t{v.word[2 * j + 1]} << 32;
    }
  }
};

// v[i] of vectors in registers, which have no addresses.
template <int kCount>
FNN_DEVICE Bytes16 picked(const Bytes16 (&v)[kCount], int i) {
  Bytes16 result = v[0];
#pragma unroll
  for (int n = 1; n < kCount; ++n) {
    if (n == i) result = v[n];
  }
  return result;
}
template <int kCount>
FNN_DEVICE void replace(Bytes16 (&v)[kCount], int i, const Bytes16& value) {
#pragma unroll
  for (int n = 0; n < kCount; ++n) {
    if (n == i) v[n] = value;
  }
}

// The elements that are meant of a thread's windows: kPerVector bits for each.
using Chosen = uint64_t;

template <class T>
FNN_DEVICE uint32_t chosen_of(Chosen all, int i) {
  return static_cast<uint32_t>(all >> (i * kPerVector<T>)) & kAllElements<T>;
}

// A thread's windows of kArrays arrays and what of them is chosen; zeros for the rest. `windows` is a range:
// first() gives a cursor, at(cursor) its window, advance(cursor). `kept`: a later pass reads them again. `all_chosen`: no
// window is partial.
template <class T, int kCount, int kArrays, class Windows>
FNN_DEVICE Chosen read_windows(const Array<T> (&from)[kArrays], const Windows& windows, bool all_chosen, bool kept,
                               Bytes16 (&to)[kArrays][kCount]) {
  Chosen chosen = 0;
  uint32_t rest[kArrays] = {};
  auto cursor = windows.first();
#pragma unroll
  for (int i = 0; i < kCount; ++i, windows.advance(cursor)) {
    const Window w = windows.at(cursor);
    chosen |= Chosen{w.chosen} << (i * kPerVector<T>);
#pragma unroll
    for (int a = 0; a < kArrays; ++a) {
      const bool any = w.chosen != 0;
      const bool whole = any & from[a].whole(w);
      to[a][i] = Bytes16{};
      if (whole) to[a][i] = kept ? load_kept(from[a].at(w.index)) : load_streaming(from[a].at(w.index));
      rest[a] |= static_cast<uint32_t>(any & !whole) << i;
    }
  }
#pragma unroll
  for (int a = 0; a < kArrays; ++a) {
    // One by one, and in a loop that is not unrolled: rare or slow anyway, so let it be small.
    cursor = windows.first();
#pragma unroll 1
    for (int i = 0; rest[a] != 0; ++i, rest[a] >>= 1, windows.advance(cursor)) {
      if (rest[a] & 1u) replace(to[a], i, from[a].read_elements(windows.at(cursor)));
    }
    if (all_chosen) continue;
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[a][i] = only<T>(to[a][i], chosen_of<T>(chosen, i));
  }
  return chosen;
}

template <class T, int kCount, class Windows>
FNN_DEVICE void write_windows(const Array<T>& to, const Windows& windows, const Bytes16 (&from)[kCount]) {
  uint32_t rest = 0;
  auto cursor = windows.first();
#pragma unroll
  for (int i = 0; i < kCount; ++i, windows.advance(cursor)) {
    const Window w = windows.at(cursor);
    const bool whole = to.aligned & (w.chosen == kAllElements<T>);
    if (whole) store_streaming(to.at(w.index), from[i]);
    rest |= static_cast<uint32_t>((w.chosen != 0) & !whole) << i;
  }
  cursor = windows.first();
#pragma unroll 1
  for (int i = 0; rest != 0; ++i, rest >>= 1, windows.advance(cursor)) {
    if (rest & 1u) to.write_elements(windows.at(cursor), picked(from, i));
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
