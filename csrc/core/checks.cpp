#include "core/checks.h"

#include <cmath>
#include <stdexcept>

#include "core/device.h"
#include "core/status.h"

namespace fusednn {

void require_tensor(const Argument& a) {
  if (a.tensor == nullptr) fail_value("`" + a.name + "` must be an array. Received: NULL");
  const fnn_tensor& t = *a.tensor;
  if (const std::string fault = axes_fault(t); !fault.empty()) fail_value("`" + a.name + "` " + fault);
  if (t.data == nullptr && element_count(t) > 0) {
    fail_value("`" + a.name + "` must have memory. Received: data=NULL, shape=" + shape_text(t));
  }
  if ((t.flags & ~static_cast<uint32_t>(FNN_READ_ONLY)) != 0) {
    fail_value("`" + a.name + "` must have no flags but FNN_READ_ONLY. Received: flags=" + std::to_string(t.flags));
  }
}

void require_float(const Argument& a) {
  if (element_size(a.tensor->dtype) == 0) {
    fail_type("`" + a.name +
              "` must be float32, float64, float16 or bfloat16. Received: dtype=" + std::to_string(a.tensor->dtype));
  }
}

void require_dtype(const Argument& a, int32_t dtype) {
  if (a.tensor->dtype != dtype) {
    fail_type("`" + a.name + "` must be " + dtype_name(dtype) + ". Received: dtype=" + dtype_name(a.tensor->dtype));
  }
}

namespace {

std::string device_name(const fnn_tensor& t) {
  if (t.device_type == FNN_CPU) return "cpu";
  std::string name = t.device_type == FNN_CUDA ? "cuda:" : "unknown:";
  return name.append(std::to_string(t.device_id));
}

}  // namespace

void require_device(const Argument& a, const fnn_tensor* beside) {
  const fnn_tensor& t = *a.tensor;
  // Codes of states are bytes.
  const int64_t size = element_size(t.dtype);
  if (on_cuda(t) && size > 0 && reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(size) != 0) {
    fail_value("`" + a.name + "` must be aligned to its element size, " + std::to_string(size) +
               ", on a GPU. Received: an address that is not a multiple of it");
  }
  if (beside != nullptr) {
    const bool same = t.device_type == beside->device_type && (!on_cuda(t) || t.device_id == beside->device_id);
    if (!same) {
      fail_value("`" + a.name + "` must be on the device of the other arrays, " + device_name(*beside) +
                 ". Received: device=" + device_name(t));
    }
    return;
  }
  if (t.device_type == FNN_CPU) return;
  if (!on_cuda(t)) {
    fail_value("`" + a.name +
               "` must be in the memory of the CPU or of an NVIDIA GPU. Received: device=" + device_name(t));
  }
  try {
    cuda_backend();
  } catch (const Failure& failure) {
    throw Failure{failure.status, "`" + a.name + "` must be in the CPU's memory: " + failure.message +
                                      ". Received: device=" + device_name(t)};
  }
}

void require_cpu(const Argument& a) {
  if (a.tensor->device_type != FNN_CPU) {
    fail_value("`" + a.name + "` must be in the CPU's memory. Received: device=" + device_name(*a.tensor));
  }
}

void require_writable(const Argument& a) {
  if ((a.tensor->flags & FNN_READ_ONLY) != 0)
    fail_value("`" + a.name + "` must be writable. Received: a read-only array");
}

void require_dense(const Argument& a) {
  if (!dense(*a.tensor)) {
    fail_value("`" + a.name + "` must be dense in memory (axes in any order). Received: shape=" +
               shape_text(*a.tensor) + ", strides=" + strides_text(*a.tensor) + " in elements");
  }
}

void require_shape_of(const Argument& a, const Argument& model) {
  bool same = a.tensor->ndim == model.tensor->ndim;
  for (int32_t i = 0; same && i < a.tensor->ndim; ++i) same = a.tensor->shape[i] == model.tensor->shape[i];
  if (!same) {
    fail_value("`" + a.name + "` must have the shape of `" + model.name + "`, " + shape_text(*model.tensor) +
               ". Received: shape=" + shape_text(*a.tensor));
  }
}

void require_layout_of(const Argument& a, const Argument& model) {
  if (!same_layout(*a.tensor, *model.tensor)) {
    fail_value("`" + a.name + "` must have the memory layout of `" + model.name + "`, strides=" +
               strides_text(*model.tensor) + " in elements. Received: strides=" + strides_text(*a.tensor));
  }
}

void require_array(const Argument& a, const Argument* model) {
  require_tensor(a);
  require_float(a);
  require_device(a, model == nullptr ? nullptr : model->tensor);
  if (model != nullptr) {
    require_dtype(a, model->tensor->dtype);
    require_shape_of(a, *model);
  }
  require_dense(a);
  if (model != nullptr) require_layout_of(a, *model);
}

void require_length(const Argument& a, int64_t length) {
  if (a.tensor->ndim != 1 || a.tensor->shape[0] != length) {
    fail_value("`" + a.name + "` must have shape (" + std::to_string(length) +
               ",). Received: shape=" + shape_text(*a.tensor));
  }
  if (!c_contiguous(*a.tensor)) {
    fail_value("`" + a.name + "` must be contiguous. Received: strides=" + strides_text(*a.tensor) + " in elements");
  }
}

void require_vector(const Argument& a, int32_t dtype, int64_t length, const fnn_tensor* beside) {
  require_tensor(a);
  require_device(a, beside);
  require_dtype(a, dtype);
  require_length(a, length);
}

void require_finite(const char* name, double value) {
  if (!std::isfinite(value))
    fail_value(std::string("`") + name + "` must be finite. Received: " + name + "=" + number(value));
}

void require_non_negative(const char* name, double value) {
  if (!(value >= 0.0) || std::isinf(value)) {
    fail_value(std::string("`") + name + "` must be finite and not negative. Received: " + name + "=" + number(value));
  }
}

void require_unit_interval(const char* name, double value) {
  if (!(value >= 0.0 && value <= 1.0)) {
    fail_value(std::string("`") + name + "` must be in [0, 1]. Received: " + name + "=" + number(value));
  }
}

void fail_null(const char* name) { fail_value(std::string("`") + name + "` must not be NULL. Received: NULL"); }

void require_list_count(const char* name, int64_t count) {
  if (count < 0)
    fail_value(std::string("`") + name + "` must not be negative. Received: " + name + "=" + std::to_string(count));
  if (count > INT32_MAX) {
    fail_value(std::string("`") + name + "` must be less than 2^31. Received: " + name + "=" + std::to_string(count));
  }
}

void require_struct_size(const char* name, size_t size, size_t expected) {
  if (size != expected) {
    fail_value(std::string("`") + name + "`.size must be " + std::to_string(expected) +
               " for this version of the library. Received: size=" + std::to_string(size));
  }
}

namespace {

bool overlap(const Range& a, const Range& b) { return a.begin < b.end && b.begin < a.end; }

[[noreturn]] void fail_overlap(const Name& output, const Range& a, const Name& other, const Range& b,
                               const char* exception) {
  fail_value("`" + output + "` must not overlap `" + other + "`" + exception + ". Received: " +
             std::to_string((a.end < b.end ? a.end : b.end) - (a.begin > b.begin ? a.begin : b.begin)) +
             " bytes in common");
}

}  // namespace

Memory::Entry& Memory::add(const Argument& a, bool written) {
  if (count_ == kMost) throw std::length_error("too many arrays in one call");
  Entry& entry = entries_[count_++];
  entry.argument = a;
  entry.bytes = bytes_of(*a.tensor);
  entry.written = written;
  return entry;
}

void Memory::input(const Argument& a) {
  if (a.tensor != nullptr) add(a, false);
}

void Memory::output(const Argument& a, const fnn_tensor* may_replace, const fnn_tensor* or_else) {
  if (a.tensor == nullptr) return;
  require_writable(a);
  Entry& entry = add(a, true);
  entry.may_replace[0] = may_replace;
  entry.may_replace[1] = or_else;
}

void Memory::check() const {
  for (const Entry* out = entries_; out != entries_ + count_; ++out) {
    if (!out->written) continue;
    for (const Entry* other = entries_; other != entries_ + count_; ++other) {
      if (!overlap(out->bytes, other->bytes) || other == out) continue;
      const fnn_tensor* tensor = other->argument.tensor;
      const bool replaces = tensor == out->may_replace[0] || tensor == out->may_replace[1];
      const bool same = out->bytes.begin == other->bytes.begin && out->bytes.end == other->bytes.end;
      if (replaces && same) continue;
      fail_overlap(out->argument.name, out->bytes, other->argument.name, other->bytes,
                   replaces ? " unless it is the very same memory" : "");
    }
  }
}

void require_apart(const Argument& output, const Argument& other) {
  const Range a = bytes_of(*output.tensor);
  const Range b = bytes_of(*other.tensor);
  if (overlap(a, b)) fail_overlap(output.name, a, other.name, b, "");
}

}  // namespace fusednn
