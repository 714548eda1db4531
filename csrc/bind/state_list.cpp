#include "bind/state_list.h"

#include <structmember.h>

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

// Where objects of the class hold their parts; the class is kept for ever.
struct Slots {
  PyTypeObject* type = nullptr;
  Py_ssize_t codes, scales, is_signed;
};
Slots slots;

void learn_slots(PyTypeObject* type) {
  if (type->tp_base != &PyBaseObject_Type) return;  // a subclass may do as it likes
  const auto offset = [type](const char* name) -> Py_ssize_t {
    const auto descriptor =
        py::reinterpret_steal<py::object>(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), name));
    if (!descriptor) throw py::error_already_set();
    if (Py_TYPE(descriptor.ptr()) != &PyMemberDescr_Type) return -1;
    return reinterpret_cast<PyMemberDescrObject*>(descriptor.ptr())->d_member->offset;
  };
  const Slots found{type, offset("codes"), offset("scales"), offset("signed")};
  if (found.codes < 0 || found.scales < 0 || found.is_signed < 0) return;
  Py_INCREF(type);
  Py_XDECREF(slots.type);
  slots = found;
}

PyObject* slot(PyObject* object, Py_ssize_t offset) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset);
}

}  // namespace

bool quantized_parts(PyObject* object, QuantizedParts& parts) {
  if (Py_TYPE(object) != slots.type) return false;
  parts = {slot(object, slots.codes), slot(object, slots.scales), slot(object, slots.is_signed) == Py_True};
  const bool is_flag = parts.is_signed || slot(object, slots.is_signed) == Py_False;
  return is_flag && parts.codes != nullptr && is_array(parts.codes) && parts.scales != nullptr &&
         is_array(parts.scales);
}

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
  if (Py_TYPE(state.ptr()) != slots.type) learn_slots(Py_TYPE(state.ptr()));
  codes_.push_back(state.attr("codes"));
  const bool is_signed = flag(("" + Name(list, index, ".signed")).c_str(), state.attr("signed"));
  const Name name(list, index, ".codes");
  if (is_array(codes_.back())) {
    tensors_.push_back(codes_view(name, codes_.back(), is_signed));
  } else {
    views_.push_back(ArrayView::codes(name, codes_.back(), is_signed));
    tensors_.push_back(*views_.back().tensor());
  }
  scales_.resize(tensors_.size());
  scales_.back() = *views_.emplace_back(Name(list, index, ".scales"), state.attr("scales")).tensor();
}

}  // namespace fusednn
