// The C API's tables of optimizers and conventions for Python: names of hyper-parameters and states, in their order.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fusednn {

namespace py = pybind11;

// The names at index 0, 1, ... of one of the C API's lists.
template <class NameAt>
std::vector<std::string> names(const NameAt& name_at) {
  std::vector<std::string> result;
  for (int32_t i = 0; name_at(i) != nullptr; ++i) result.emplace_back(name_at(i));
  return result;
}

// Names with the Python strings of theirs, which are kept: the keys of most dicts are the very same objects.
struct Names {
  explicit Names(std::vector<std::string> list);
  std::vector<std::string> all;
  std::vector<PyObject*> keys;
};

struct Kind {
  explicit Kind(int32_t k);
  int32_t number;
  Names hyperparameters, states;
};

// To be called once while no thread is about to end.
const std::vector<Kind>& kinds();
const Kind& kind_of(const std::string& name);
int32_t convention_of(const std::string& name);

// Where `key` stands among the names. Whoever misspells one must hear of it.
size_t index_of(const char* argument, py::handle key, const Names& names);

void require_dict(const char* argument, py::handle object);

// f(index among the names, value) for what a dict holds.
template <class F>
void for_named(const char* argument, py::handle dict, const Names& names, const F& f) {
  require_dict(argument, dict);
  Py_ssize_t position = 0;
  PyObject* key;
  PyObject* value;
  while (PyDict_Next(dict.ptr(), &position, &key, &value) != 0) {
    f(index_of(argument, key, names), py::reinterpret_borrow<py::object>(value));
  }
}

}  // namespace fusednn
