#include "bind/numbers.h"

#include <string_view>

namespace fusednn {
namespace {

[[noreturn]] void refuse_argument(const char* name, const char* expectation, py::handle value) {
  PyErr_Clear();
  throw py::type_error(std::string("`") + name + "` must be " + expectation + ". Received: " + name + "=" +
                       py::repr(value).cast<std::string>());
}

// NumPy's own booleans are not Python's.
bool is_flag(py::handle value) {
  return PyBool_Check(value.ptr()) || std::string_view(Py_TYPE(value.ptr())->tp_name).starts_with("numpy.bool");
}

}  // namespace

double real(const char* name, py::handle value) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred() != nullptr) refuse_argument(name, "a number", value);
  return number;
}

std::optional<double> optional_real(const char* name, py::handle value) {
  return value.is_none() ? std::nullopt : std::optional<double>(real(name, value));
}

int64_t integer(const char* name, py::handle value) {
  if (is_flag(value)) refuse_argument(name, "an integer", value);
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) refuse_argument(name, "an integer", value);
  const int64_t number = PyLong_AsLongLong(index.ptr());
  if (number == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(std::string("`") + name + "` must fit 64 bits. Received: " + name + "=" +
                          py::repr(value).cast<std::string>());
  }
  return number;
}

bool flag(const char* name, py::handle value) {
  if (!is_flag(value)) refuse_argument(name, "True or False", value);
  return PyObject_IsTrue(value.ptr()) == 1;
}

std::optional<bool> optional_flag(const char* name, py::handle value) {
  return value.is_none() ? std::nullopt : std::optional<bool>(flag(name, value));
}

std::string text(const char* name, py::handle value) {
  if (!py::isinstance<py::str>(value)) refuse_argument(name, "a string", value);
  return value.cast<std::string>();
}

}  // namespace fusednn
