// A list of optimizer states: arrays, or objects of the Python class QuantizedState with their codes and scales.
#pragma once

#include <vector>

#include "bind/array_view.h"

namespace fusednn {

// Bytes that hold codes, as an fnn_tensor. Valid as long as the array is.
fnn_tensor codes_view(const Name& name, py::handle array, bool is_signed);

// What an object of exactly the Python class QuantizedState holds, borrowed, read from its slots: no Python code runs.
struct QuantizedParts {
  PyObject* codes;
  PyObject* scales;
  bool is_signed;
};

// False where the object is none, where a part is no array of NumPy's, and before a StateList has met the first.
bool quantized_parts(PyObject* object, QuantizedParts& parts);

// Views for the C API, kept side by side. None is allowed: data() is then null.
class StateList {
 public:
  StateList(const char* name, py::handle sequence, int64_t count);

  const fnn_tensor* data() const { return present_ ? tensors_.data() : nullptr; }
  // As fnn_optimizer_tensors.state_scales: null where no state is quantized.
  const fnn_tensor* scales() const { return scales_.empty() ? nullptr : scales_.data(); }

 private:
  void add_quantized(const char* list, int64_t index, py::handle state);

  bool present_ = false;
  std::vector<ArrayView> views_;
  std::vector<py::object> codes_;
  std::vector<fnn_tensor> tensors_;
  std::vector<fnn_tensor> scales_;
};

}  // namespace fusednn
