#include "core/checks.h"

#include <cmath>

#include "core/status.h"

namespace fusednn {

void require_present(const Argument& a) {
  if (a.tensor == nullptr) fail_value("`" + a.name + "` must be an array. Received: NULL");
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

void require_cpu(const Argument& a) {
  if (a.tensor->device_type != FNN_CPU) {
    fail_value("`" + a.name + "` must be in the CPU's memory: this build has no CUDA kernels. Received: device=" +
               (a.tensor->device_type == FNN_CUDA ? "cuda:" : "unknown:") + std::to_string(a.tensor->device_id));
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

void require_length(const Argument& a, int64_t length) {
  if (a.tensor->ndim != 1 || a.tensor->shape[0] != length) {
    fail_value("`" + a.name + "` must have shape (" + std::to_string(length) +
               ",). Received: shape=" + shape_text(*a.tensor));
  }
  if (!c_contiguous(*a.tensor)) {
    fail_value("`" + a.name + "` must be contiguous. Received: strides=" + strides_text(*a.tensor) + " in elements");
  }
}

void require_array(const Argument& a, const Argument* model) {
  require_present(a);
  require_float(a);
  require_cpu(a);
  if (model != nullptr) {
    require_dtype(a, model->tensor->dtype);
    require_shape_of(a, *model);
  }
  require_dense(a);
  if (model != nullptr) require_layout_of(a, *model);
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

void require_struct_size(const char* name, size_t size, size_t expected) {
  if (size != expected) {
    fail_value(std::string("`") + name + "`.size must be " + std::to_string(expected) +
               " for this version of the library. Received: size=" + std::to_string(size));
  }
}

void Memory::input(const Argument& a) {
  if (a.tensor != nullptr) entries_.push_back({a, false, {}});
}

void Memory::output(const Argument& a, std::vector<const fnn_tensor*> may_replace) {
  if (a.tensor == nullptr) return;
  require_writable(a);
  entries_.push_back({a, true, std::move(may_replace)});
}

void Memory::check() const {
  for (const Entry& out : entries_) {
    if (!out.written) continue;
    const Range a = bytes_of(*out.argument.tensor);
    for (const Entry& other : entries_) {
      if (&other == &out) continue;
      const Range b = bytes_of(*other.argument.tensor);
      if (a.begin >= b.end || b.begin >= a.end) continue;
      bool replaces = false;
      for (const fnn_tensor* t : out.may_replace) replaces = replaces || t == other.argument.tensor;
      if (replaces && a.begin == b.begin && a.end == b.end) continue;
      fail_value("`" + out.argument.name + "` must not overlap `" + other.argument.name + "`" +
                 (replaces ? " unless it is the very same memory" : "") + ". Received: " +
                 std::to_string((a.end < b.end ? a.end : b.end) - (a.begin > b.begin ? a.begin : b.begin)) +
                 " bytes in common");
    }
  }
}

}  // namespace fusednn
