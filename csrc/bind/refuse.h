// What is wrong with an array, as an exception of Python's.
#pragma once

#include <pybind11/pybind11.h>

#include "core/name.h"

namespace fusednn {

// Of one that only Python code of this package passes on. ValueError: "`name` must be `must`. Received: ..."
[[noreturn]] void refuse(const char* name, const char* must, pybind11::handle array);

// What the array's package raised, as an error of its kind: "`name` must `must`. Received: type=..., which says: ..."
[[noreturn]] void raise_by_name(const Name& name, const char* must, pybind11::handle array,
                                pybind11::error_already_set& error);

}  // namespace fusednn
