#include "bind/torch_tensor.h"

#include <string>

namespace fusednn {
namespace {

// What is looked up once, when the first tensor comes. The references are kept: modules may be gone when the process
// ends.
struct Torch {
  PyTypeObject* tensor = nullptr;
  PyTypeObject* parameter = nullptr;
  const dlpack::ExchangeApi* api = nullptr;
  PyObject* is_grad_enabled = nullptr;
  PyObject* requires_grad = nullptr;  // the attribute's name
};

const dlpack::ExchangeApi* api_of(PyTypeObject* type) {
  const auto capsule = py::reinterpret_steal<py::object>(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__"));
  if (!capsule || PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api") == 0) {
    PyErr_Clear();
    return nullptr;
  }
  auto* header = static_cast<const dlpack::ExchangeHeader*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (header != nullptr && header->version.major != 1) header = header->previous;
  const auto* api = reinterpret_cast<const dlpack::ExchangeApi*>(header);
  return api != nullptr && api->tensor_from_object != nullptr ? api : nullptr;
}

// Null as long as nobody has imported PyTorch.
const Torch* find_torch() {
  static const Torch* found = nullptr;
  if (found != nullptr) return found;
  PyObject* const module = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
  const py::handle torch = module;
  // While it is being imported it lacks some of this.
  for (const char* name : {"Tensor", "is_grad_enabled", "nn"}) {
    if (module == nullptr || !py::hasattr(torch, name)) return nullptr;
  }
  if (!py::hasattr(torch.attr("nn"), "Parameter")) return nullptr;
  auto* types = new Torch;
  types->tensor = reinterpret_cast<PyTypeObject*>(py::object(torch.attr("Tensor")).release().ptr());
  types->parameter = reinterpret_cast<PyTypeObject*>(py::object(torch.attr("nn").attr("Parameter")).release().ptr());
  types->is_grad_enabled = py::object(torch.attr("is_grad_enabled")).release().ptr();
  types->requires_grad = PyUnicode_InternFromString("requires_grad");
  types->api = api_of(types->tensor);
  return found = types;
}

bool exchange_api_used = true;

// Of the call that this thread is in.
enum Recording : int { kAsk, kNotAsked, kOff, kOn };
thread_local int recording = kAsk;

bool is_true(const py::object& object) {
  if (!object) throw py::error_already_set();
  return object.ptr() == Py_True;
}

}  // namespace

bool is_torch_tensor(py::handle object) {
  const Torch* torch = find_torch();
  return torch != nullptr && PyObject_TypeCheck(object.ptr(), torch->tensor) != 0;
}

bool is_plain_tensor(py::handle object) {
  const Torch* torch = find_torch();
  return torch != nullptr && (Py_TYPE(object.ptr()) == torch->tensor || Py_TYPE(object.ptr()) == torch->parameter);
}

const dlpack::ExchangeApi* exchange_api_of(PyTypeObject* type) {
  const Torch* torch = find_torch();
  const bool known = torch != nullptr && exchange_api_used && (type == torch->tensor || type == torch->parameter);
  return known ? torch->api : nullptr;
}

bool use_exchange_api(bool use) {
  const bool before = exchange_api_used;
  exchange_api_used = use;
  return before;
}

RecordingScope::RecordingScope() : outer_(recording) { recording = kNotAsked; }
RecordingScope::~RecordingScope() { recording = outer_; }

void require_not_recorded(const Name& name, py::handle tensor) {
  const Torch& torch = *find_torch();
  if (recording == kOff) return;
  if (recording != kOn) {
    const bool on = is_true(py::reinterpret_steal<py::object>(PyObject_CallNoArgs(torch.is_grad_enabled)));
    if (recording == kNotAsked) recording = on ? kOn : kOff;
    if (!on) return;
  }
  if (!is_true(py::reinterpret_steal<py::object>(PyObject_GetAttr(tensor.ptr(), torch.requires_grad)))) return;
  throw py::value_error("`" + name +
                        "` must not require gradients, which would not be recorded: call under torch.no_grad(), or "
                        "pass `" +
                        name + ".detach()`. Received: requires_grad=True");
}

void require_not_negated(const Name& name, py::handle tensor) {
  if (!tensor.attr("is_neg")().cast<bool>()) return;
  throw py::value_error("`" + name + "` must hold its own values: pass `" + name +
                        ".resolve_neg()`. Received: a view that negates what it shows");
}

py::object copy_laid_out_as(py::handle tensor, const fnn_tensor& layout) {
  py::tuple shape(layout.ndim);
  py::tuple strides(layout.ndim);
  int64_t in_order = 1;
  for (int32_t i = layout.ndim - 1; i >= 0; --i) {
    const auto at = static_cast<size_t>(i);
    shape[at] = layout.shape[i];
    strides[at] = layout.strides != nullptr ? layout.strides[i] : in_order;
    in_order *= layout.shape[i];
  }
  const py::object torch = py::module_::import("torch");
  py::object copy = torch.attr("empty_strided")(shape, strides, py::arg("dtype") = tensor.attr("dtype"),
                                                py::arg("device") = tensor.attr("device"));
  copy.attr("copy_")(tensor.attr("detach")());
  return copy;
}

py::object contiguous_copy(py::handle tensor) {
  const py::object order = py::module_::import("torch").attr("contiguous_format");
  return tensor.attr("detach")().attr("clone")(py::arg("memory_format") = order);
}

py::object dense_copy(py::handle tensor) { return tensor.attr("detach")().attr("clone")(); }

}  // namespace fusednn
