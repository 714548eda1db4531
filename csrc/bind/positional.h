// Functions of positional arguments in the Python module, beside pybind11's, whose dispatcher takes as long as a small
// kernel. What they throw becomes the Python exception that pybind11 would raise.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "bind/call_stream.h"
#include "bind/torch_tensor.h"

namespace fusednn {

namespace py = pybind11;

inline PyObject* to_python(bool value) { return PyBool_FromLong(value ? 1 : 0); }
inline PyObject* to_python(int64_t value) { return PyLong_FromLongLong(value); }
inline PyObject* to_python(double value) { return PyFloat_FromDouble(value); }
inline PyObject* to_python(const py::object& value) { return value.inc_ref().ptr(); }

template <auto function>
struct Positional;

template <class Result, class... Handles, Result (*function)(Handles...)>
struct Positional<function> {
  static PyObject* call(PyObject* /*module*/, PyObject* const* arguments, Py_ssize_t count) {
    if (count != static_cast<Py_ssize_t>(sizeof...(Handles))) {
      PyErr_Format(PyExc_TypeError, "`%s` takes %zu positional arguments. Received: %zd", definition.ml_name,
                   sizeof...(Handles), count);
      return nullptr;
    }
    const RecordingScope scope;
    CallStream stream;
    // What is none of these passes: glibc ends threads by unwinding.
    try {
      auto result = py::reinterpret_steal<py::object>(spread(arguments, std::index_sequence_for<Handles...>{}));
      stream.finish();
      return result.release().ptr();
    } catch (py::error_already_set& error) {
      error.restore();
    } catch (const py::builtin_exception& error) {
      error.set_error();
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
  }

  // `parameters` are names with a comma between them.
  static void add(py::module_& m, const char* name, const std::string& parameters) {
    signature = std::string(name) + "(";
    for (const char letter : parameters) signature += letter == ',' ? std::string(": object,") : std::string(1, letter);
    signature += std::string(": object, /) -> ") + result_type();
    definition.ml_name = name;
    definition.ml_doc = signature.c_str();
    if (PyModule_AddFunctions(m.ptr(), table) != 0) throw py::error_already_set();
  }

 private:
  template <size_t... i>
  static PyObject* spread(PyObject* const* arguments, std::index_sequence<i...>) {
    if constexpr (std::is_void_v<Result>) {
      function(Handles(arguments[i])...);
      Py_RETURN_NONE;
    } else {
      return to_python(function(Handles(arguments[i])...));
    }
  }

  static const char* result_type() {
    if constexpr (std::is_void_v<Result>) return "None";
    if constexpr (std::is_base_of_v<py::object, Result>) return "object";
    return std::is_same_v<Result, bool> ? "bool" : std::is_same_v<Result, double> ? "float" : "int";
  }

  // Python keeps pointers to these.
  static inline std::string signature;
  static inline PyMethodDef table[2] = {
      {nullptr, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call)), METH_FASTCALL, nullptr},
      {nullptr, nullptr, 0, nullptr}};
  static inline PyMethodDef& definition = table[0];
};

template <auto function>
void add_positional(py::module_& m, const char* name, const char* parameters) {
  Positional<function>::add(m, name, parameters);
}

}  // namespace fusednn
