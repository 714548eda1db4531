// Reading an fnn_tensor: sizes, memory layout, and text for messages. Nothing here fails.
#pragma once

#include <cstdint>
#include <string>

#include "fusednn/fusednn.h"

namespace fusednn {

inline int64_t element_size(int32_t dtype) {  // 0: not a dtype
  switch (dtype) {
    case FNN_FLOAT32:  return 4;
    case FNN_FLOAT64:  return 8;
    case FNN_FLOAT16:
    case FNN_BFLOAT16: return 2;
    default:           return 0;
  }
}

inline bool is_codes(int32_t dtype) { return dtype == FNN_SIGNED_CODES || dtype == FNN_UNSIGNED_CODES; }

const char* dtype_name(int32_t dtype);

inline int64_t element_count(const fnn_tensor& t) {
  int64_t count = 1;
  for (int32_t i = 0; i < t.ndim; ++i) count *= t.shape[i];
  return count;
}

// The most axes a tensor may have: those of NumPy's arrays, and of what most functions of PyTorch take. A larger number
// is none that a program meant, and the shape is not read that far.
constexpr int32_t kMostAxes = 64;

// What is wrong with the description of the axes, as messages say it ("must ... Received: ..."), or empty. To be asked
// before anything reads the shape.
std::string axes_fault(const fnn_tensor& t);

bool c_contiguous(const fnn_tensor& t);

// Whether the elements fill one block of memory without gaps, in any order of the axes.
bool dense(const fnn_tensor& t);

// Whether element (i, j, ...) lies at the same place in both; the shapes are equal.
bool same_layout(const fnn_tensor& a, const fnn_tensor& b);

// A dense tensor seen as (outer, channels, inner) in the order of its memory.
struct ChannelView {
  int64_t outer, channels, inner;
};
ChannelView channel_view(const fnn_tensor& t, int64_t channel_axis);

std::string shape_text(const fnn_tensor& t);
std::string strides_text(const fnn_tensor& t);

// Element i of a contiguous float32 or float64 vector, which may be misaligned.
double value_at(const fnn_tensor& t, int64_t i);
void put_value(const fnn_tensor& t, int64_t i, double value);

// A dense tensor's bytes, of codes, too.
struct Range {
  uintptr_t begin, end;
};
inline Range bytes_of(const fnn_tensor& t) {
  const auto begin = reinterpret_cast<uintptr_t>(t.data);
  const int64_t size = is_codes(t.dtype) ? 1 : element_size(t.dtype);
  return {begin, begin + static_cast<uintptr_t>(element_count(t) * size)};
}

}  // namespace fusednn
