#include "bind/refuse.h"

#include <string>

#include "bind/numpy_array.h"

namespace fusednn {

void refuse(const char* name, const char* must, pybind11::handle array) {
  std::string text = "`";
  text.append(name).append("` must be ").append(must).append(". Received: ").append(name).append("=");
  throw pybind11::value_error(text + std::string(pybind11::repr(array)));
}

void raise_by_name(const Name& name, const char* must, py::handle array, py::error_already_set& error) {
  // Not what is no fault of the array: a keyboard interrupt, no memory.
  if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw py::error_already_set(error);
  PyObject* kind = PyExc_RuntimeError;
  for (PyObject* one : {PyExc_TypeError, PyExc_ValueError, PyExc_BufferError, PyExc_NotImplementedError}) {
    if (error.matches(one)) kind = one;
  }
  const auto said = py::str(error.value()).cast<std::string>();
  const std::string message = "`" + name + "` must " + must + ". Received: type=" + type_name(array) +
                              ", which says: " + said.substr(0, said.find('\n'));
  py::raise_from(error, kind, message.c_str());
  throw py::error_already_set();
}

}  // namespace fusednn
