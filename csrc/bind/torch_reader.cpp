#include "bind/torch_reader.h"

#include <iterator>

#include "bind/torch_tensor.h"

namespace fusednn {

namespace py = pybind11;

namespace {

// Of PyTorch's module and its tensors, kept for ever.
struct Attributes {
  PyObject* is_cpu = PyUnicode_InternFromString("is_cpu");
  PyObject* layout = PyUnicode_InternFromString("layout");
  PyObject* dtype = PyUnicode_InternFromString("dtype");
  PyObject* shape = PyUnicode_InternFromString("shape");
  PyObject* stride = PyUnicode_InternFromString("stride");
  PyObject* data_ptr = PyUnicode_InternFromString("data_ptr");
  py::module_ torch = py::module_::import("torch");  // a tensor's is there
  PyObject* strided = py::object(torch.attr("strided")).release().ptr();
  struct {
    PyObject* object;
    int32_t dtype;
  } dtypes[4] = {{py::object(torch.attr("float32")).release().ptr(), FNN_FLOAT32},
                 {py::object(torch.attr("float64")).release().ptr(), FNN_FLOAT64},
                 {py::object(torch.attr("float16")).release().ptr(), FNN_FLOAT16},
                 {py::object(torch.attr("bfloat16")).release().ptr(), FNN_BFLOAT16}};
};
const Attributes& attributes() {
  static const Attributes& all = *new Attributes;
  return all;
}

// Null with an exception set where there is none.
py::object attribute(PyObject* of, PyObject* name) {
  return py::reinterpret_steal<py::object>(PyObject_GetAttr(of, name));
}
py::object returned(PyObject* of, PyObject* method) {
  return py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(of, method));
}

bool append(const py::object& tuple, std::vector<int64_t>& to) {
  if (!tuple || PyTuple_Check(tuple.ptr()) == 0) return false;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple.ptr()); ++i) {
    to.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(tuple.ptr(), i)));
  }
  return PyErr_Occurred() == nullptr;
}

}  // namespace

bool TorchReader::read(PyObject* tensor, fnn_tensor& to) {
  const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(tensor));
  bool known = false;
  if (api == nullptr) {
    known = is_plain_tensor(tensor) && read_attributes(tensor, to);
  } else {
    dlpack::Tensor from;
    known = api->tensor_from_object(tensor, &from) == 0;
    if (known) {
      to.dtype = dlpack::float_dtype(from.dtype);
      if (from.device.type != dlpack::kCpu || to.dtype < 0) return false;
      to.data = from.first();
      to.ndim = from.ndim;
      to.shape = from.shape;
      to.strides = from.strides;
    }
  }
  if (!known) PyErr_Clear();
  return known;
}

bool TorchReader::read_attributes(PyObject* tensor, fnn_tensor& to) {
  const Attributes& names = attributes();
  if (attribute(tensor, names.is_cpu).ptr() != Py_True) return false;
  if (attribute(tensor, names.layout).ptr() != names.strided) return false;
  const py::object dtype = attribute(tensor, names.dtype);
  const auto* known = std::begin(names.dtypes);
  while (known != std::end(names.dtypes) && known->object != dtype.ptr()) ++known;
  if (known == std::end(names.dtypes)) return false;
  to.dtype = known->dtype;
  std::vector<int64_t>& sizes = sizes_.emplace_back();
  if (!append(attribute(tensor, names.shape), sizes)) return false;
  const size_t axes = sizes.size();
  if (!append(returned(tensor, names.stride), sizes) || sizes.size() != 2 * axes) return false;
  const py::object data = returned(tensor, names.data_ptr);
  if (!data) return false;
  to.data = PyLong_AsVoidPtr(data.ptr());
  to.ndim = static_cast<int32_t>(axes);
  to.shape = sizes.data();
  to.strides = sizes.data() + axes;
  return PyErr_Occurred() == nullptr;
}

}  // namespace fusednn
