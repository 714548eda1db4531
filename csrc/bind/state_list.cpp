#include "bind/state_list.h"

#include <string>

#include "bind/numbers.h"
#include "bind/numpy_array.h"

namespace fusednn {
namespace {

// Where its module was never imported there is no such object.
bool is_quantized(py::handle object) {
  const auto modules = py::reinterpret_borrow<py::dict>(PyImport_GetModuleDict());
  const py::str module("fusednn.ops.quantized_state");
  return modules.contains(module) && py::isinstance(object, py::object(modules[module]).attr("QuantizedState"));
}

}  // namespace

fnn_tensor codes_view(const Name& name, py::handle array, bool is_signed) {
  if (!is_array(array)) {
    throw py::type_error("`" + name + "` must be a NumPy array. Received: type=" + type_name(array));
  }
  const ArrayFields& a = fields(array);
  const auto dtype = py::reinterpret_borrow<py::dtype>(a.descr);
  if (dtype.num() != py::detail::npy_api::NPY_UBYTE_) {
    throw py::type_error("`" + name +
                         "` must be uint8. Received: dtype=" + py::str(py::object(dtype)).cast<std::string>());
  }
  fnn_tensor t{};
  t.data = a.data;
  t.shape = reinterpret_cast<const int64_t*>(a.dimensions);
  // Of bytes, so that they count elements; an array in C order has none.
  t.strides = is_c_contiguous(a) ? nullptr : reinterpret_cast<const int64_t*>(a.strides);
  t.ndim = a.nd;
  t.dtype = is_signed ? FNN_SIGNED_CODES : FNN_UNSIGNED_CODES;
  t.device_type = FNN_CPU;
  t.flags = is_writable(a) ? 0 : FNN_READ_ONLY;
  return t;
}

StateList::StateList(const char* name, py::handle sequence, int64_t count) {
  if (sequence.is_none()) return;
  const auto list =
      is_array(sequence) ? py::object() : py::reinterpret_steal<py::object>(PySequence_Tuple(sequence.ptr()));
  if (!list) {
    PyErr_Clear();
    throw py::type_error(std::string("`") + name + "` must be a list of arrays. Received: type=" + type_name(sequence));
  }
  const Py_ssize_t given = PyTuple_GET_SIZE(list.ptr());
  if (given != count) {
    throw py::value_error(std::string("`") + name + "` must hold one array per parameter, " + std::to_string(count) +
                          ". Received: " + std::to_string(given) + " arrays");
  }
  views_.reserve(static_cast<size_t>(count));
  tensors_.reserve(static_cast<size_t>(count));
  for (Py_ssize_t i = 0; i < given; ++i) {
    const py::handle item = PyTuple_GET_ITEM(list.ptr(), i);
    if (!is_array(item) && is_quantized(item)) {
      add_quantized(name, i, item);
    } else {
      tensors_.push_back(*views_.emplace_back(Name(name, i), item).tensor());
    }
  }
  if (!scales_.empty()) scales_.resize(tensors_.size());
  present_ = true;
}

void StateList::add_quantized(const char* list, int64_t index, py::handle state) {
  codes_.push_back(state.attr("codes"));
  const bool is_signed = flag(("" + Name(list, index, ".signed")).c_str(), state.attr("signed"));
  tensors_.push_back(codes_view({list, index, ".codes"}, codes_.back(), is_signed));
  scales_.resize(tensors_.size());
  scales_.back() = *views_.emplace_back(Name(list, index, ".scales"), state.attr("scales")).tensor();
}

}  // namespace fusednn
