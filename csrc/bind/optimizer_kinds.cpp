#include "bind/optimizer_kinds.h"

#include "bind/numbers.h"
#include "fusednn/fusednn.h"

namespace fusednn {
namespace {

// "a, b, c", for messages.
std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& name : all) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

Names::Names(std::vector<std::string> list) : all(std::move(list)) {
  for (const std::string& name : all) keys.push_back(PyUnicode_InternFromString(name.c_str()));
}

Kind::Kind(int32_t k)
    : number(k),
      hyperparameters(names([k](int32_t i) { return fnn_optimizer_hyperparameter(k, i); })),
      states(names([k](int32_t i) { return fnn_optimizer_state(k, i); })) {}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind>& all = *[] {
    auto* list = new std::vector<Kind>;
    for (int32_t k = 0; fnn_optimizer_name(k) != nullptr; ++k) list->emplace_back(k);
    return list;
  }();
  return all;
}

const Kind& kind_of(const std::string& name) {
  const int32_t kind = fnn_optimizer_kind(name.c_str());
  if (kind < 0) {
    throw py::value_error("`kind` must be one of " + listed(names(&fnn_optimizer_name)) + ". Received: kind=" + name);
  }
  return kinds()[static_cast<size_t>(kind)];
}

int32_t convention_of(const std::string& name) {
  for (int32_t i = 0; fnn_convention_name(i) != nullptr; ++i) {
    if (name == fnn_convention_name(i)) return i;
  }
  throw py::value_error("`convention` must be one of " + listed(names(&fnn_convention_name)) +
                        ". Received: convention=" + name);
}

size_t index_of(const char* argument, py::handle key, const Names& names) {
  for (size_t i = 0; i < names.keys.size(); ++i) {
    if (key.ptr() == names.keys[i]) return i;
  }
  const std::string name = text(argument, key);
  for (size_t i = 0; i < names.all.size(); ++i) {
    if (names.all[i] == name) return i;
  }
  throw py::type_error(std::string("`") + argument + "` must be among " + listed(names.all) +
                       ". Received: " + py::repr(key).cast<std::string>());
}

void require_dict(const char* argument, py::handle object) {
  if (PyDict_Check(object.ptr()) != 0) return;
  const std::string type = Py_TYPE(object.ptr())->tp_name;
  throw py::type_error(std::string("`") + argument + "` must be a dict. Received: type=" + type);
}

}  // namespace fusednn
