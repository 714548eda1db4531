#include "bind/refuse.h"

#include <string>

namespace fusednn {

void refuse(const char* name, const char* must, pybind11::handle array) {
  std::string text = "`";
  text.append(name).append("` must be ").append(must).append(". Received: ").append(name).append("=");
  throw pybind11::value_error(text + std::string(pybind11::repr(array)));
}

}  // namespace fusednn
