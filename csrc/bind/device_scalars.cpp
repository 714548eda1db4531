#include "bind/device_scalars.h"

#include <string>

#include "bind/foreign_array.h"
#include "bind/numpy_array.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

std::string device_of(const fnn_tensor& tensor) {
  return tensor.device_type == FNN_CUDA ? "cuda:" + std::to_string(tensor.device_id) : std::string("cpu");
}

}  // namespace

// The view of an array on a GPU, kept; null for all else.
const ArrayView* DeviceScalars::view_of(const char* name, py::handle value) {
  PyObject* const object = value.ptr();
  const bool is_number = object == Py_None || PyFloat_Check(object) != 0 || PyLong_Check(object) != 0;
  if (is_number || PyList_Check(object) != 0 || PyTuple_Check(object) != 0) return nullptr;
  if (is_array(value) || !is_foreign_array(value)) return nullptr;
  ArrayView view(name, value);
  const fnn_tensor& tensor = *view.tensor();
  if (tensor.device_type != FNN_CUDA) return nullptr;
  if (tensor.dtype != FNN_FLOAT32 || view.size() != 1) {
    throw py::type_error(std::string("`") + name + "` must be a number, or a float32 array of one element on a GPU. " +
                         "Received: an array of " + std::to_string(view.size()) +
                         " elements, dtype=" + dtype_name(tensor.dtype));
  }
  return &taken_.emplace_back(Taken{name, std::move(view)}).view;
}

bool DeviceScalars::take(const char* name, py::handle value, const float*& to) {
  const ArrayView* view = view_of(name, value);
  if (view != nullptr) to = static_cast<const float*>(view->tensor()->data);
  return view != nullptr;
}

bool DeviceScalars::take_written(const char* name, py::handle value, float*& to) {
  const ArrayView* view = view_of(name, value);
  if (view == nullptr) return false;
  if ((view->tensor()->flags & FNN_READ_ONLY) != 0) {
    throw py::value_error(std::string("`") + name +
                          "` must be writable: the step counts in it. Received: a read-only array");
  }
  to = static_cast<float*>(view->tensor()->data);
  return true;
}

void DeviceScalars::take_only(const char* name, py::handle value, const float*& to) {
  if (value.is_none() || take(name, value, to)) return;
  throw py::type_error(std::string("`") + name + "` must be None, or a float32 array of one element on a GPU. " +
                       "Received: type=" + type_name(value));
}

void DeviceScalars::require_beside(const fnn_optimizer_tensors& lists) const {
  const bool on_gpu = lists.count > 0 && lists.params[0].device_type == FNN_CUDA;
  for (const Taken& taken : taken_) {
    const fnn_tensor& scalar = *taken.view.tensor();
    if (on_gpu && lists.params[0].device_id == scalar.device_id) continue;
    const std::string expected = on_gpu ? "on the device of `params`, " + device_of(lists.params[0])
                                        : std::string("a number where `params` are not on a GPU");
    throw py::value_error(std::string("`") + taken.name + "` must be " + expected + ". Received: an array on " +
                          device_of(scalar));
  }
}

}  // namespace fusednn
