// What is wrong with an array that only Python code of this package passes on, as an exception.
#pragma once

#include <pybind11/pybind11.h>

namespace fusednn {

// ValueError: "`name` must be `must`. Received: ..."
[[noreturn]] void refuse(const char* name, const char* must, pybind11::handle array);

}  // namespace fusednn
