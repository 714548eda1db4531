#include "core/tensor.h"

#include <cstring>
#include <vector>

namespace fusednn {
namespace {

std::string tuple_text(const int64_t* values, int32_t count) {
  std::string text = "(";
  for (int32_t i = 0; i < count; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(values[i]);
  }
  return text + (count == 1 ? ",)" : ")");
}

std::vector<int64_t> strides_of(const fnn_tensor& t) {
  if (t.strides != nullptr) return {t.strides, t.strides + t.ndim};
  std::vector<int64_t> strides(static_cast<size_t>(t.ndim));
  int64_t stride = 1;
  for (int32_t i = t.ndim - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = stride;
    stride *= t.shape[i];
  }
  return strides;
}

// Their product with the size of the largest element, zeros aside, can be counted in bytes.
bool lengths_can_be_counted(const fnn_tensor& t) {
  int64_t bytes = 8;
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] > 0 && __builtin_mul_overflow(bytes, t.shape[i], &bytes)) return false;
  }
  return true;
}

}  // namespace

std::string axes_fault(const fnn_tensor& t) {
  if (t.ndim < 0 || t.ndim > kMostAxes) {
    return "must have from 0 to " + std::to_string(kMostAxes) + " axes. Received: ndim=" + std::to_string(t.ndim);
  }
  if (t.ndim > 0 && t.shape == nullptr) {
    return "must have a length for each axis. Received: ndim=" + std::to_string(t.ndim) + ", shape=NULL";
  }
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (t.shape[i] < 0) return "must have lengths that are not negative. Received: shape=" + shape_text(t);
  }
  if (!lengths_can_be_counted(t)) return "must have fewer than 2^63 bytes. Received: shape=" + shape_text(t);
  return {};
}

const char* dtype_name(int32_t dtype) {
  switch (dtype) {
    case FNN_FLOAT32:  return "float32";
    case FNN_FLOAT64:  return "float64";
    case FNN_FLOAT16:  return "float16";
    case FNN_BFLOAT16: return "bfloat16";
    default:           return "unknown";
  }
}

bool c_contiguous(const fnn_tensor& t) {
  if (t.strides == nullptr || element_count(t) == 0) return true;
  int64_t expected = 1;
  for (int32_t i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.strides[i] != expected) return false;
    expected *= t.shape[i];
  }
  return true;
}

bool dense(const fnn_tensor& t) {
  if (c_contiguous(t)) return true;
  // Walk the axes from the innermost in memory outwards: each must start where the previous ends.
  int64_t expected = 1;
  std::vector<bool> used(static_cast<size_t>(t.ndim), false);
  for (int32_t step = 0; step < t.ndim; ++step) {
    int32_t found = -1;
    for (int32_t i = 0; i < t.ndim; ++i) {
      if (!used[static_cast<size_t>(i)] && (t.shape[i] == 1 || t.strides[i] == expected)) {
        found = i;
        break;
      }
    }
    if (found < 0) return false;
    used[static_cast<size_t>(found)] = true;
    expected *= t.shape[found];
  }
  return true;
}

bool same_layout(const fnn_tensor& a, const fnn_tensor& b) {
  if (c_contiguous(a)) return c_contiguous(b);
  const std::vector<int64_t> sa = strides_of(a);
  const std::vector<int64_t> sb = strides_of(b);
  for (int32_t i = 0; i < a.ndim; ++i) {
    if (a.shape[i] != 1 && sa[static_cast<size_t>(i)] != sb[static_cast<size_t>(i)]) return false;
  }
  return true;
}

ChannelView channel_view(const fnn_tensor& t, int64_t channel_axis) {
  ChannelView view{1, t.shape[channel_axis], 1};
  const bool in_order = c_contiguous(t);
  for (int32_t i = 0; i < t.ndim; ++i) {
    if (i == channel_axis) continue;
    const bool outside = in_order ? i < channel_axis : t.strides[i] > t.strides[channel_axis];
    (outside ? view.outer : view.inner) *= t.shape[i];
  }
  // One channel: all elements are its own, in one run. One run: the same as columns of one row each, seen as runs.
  if (view.channels == 1) return {1, 1, view.outer * view.inner};
  return view;
}

std::string shape_text(const fnn_tensor& t) { return tuple_text(t.shape, t.ndim); }

std::string strides_text(const fnn_tensor& t) { return tuple_text(strides_of(t).data(), t.ndim); }

double value_at(const fnn_tensor& t, int64_t i) {
  const char* at = static_cast<const char*>(t.data) + i * element_size(t.dtype);
  if (t.dtype == FNN_FLOAT64) {
    double value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}

void put_value(const fnn_tensor& t, int64_t i, double value) {
  char* at = static_cast<char*>(t.data) + i * element_size(t.dtype);
  if (t.dtype == FNN_FLOAT64) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const auto narrowed = static_cast<float>(value);
  std::memcpy(at, &narrowed, sizeof narrowed);
}

}  // namespace fusednn
