// Arrays with `__cuda_array_interface__`, version 0 to 3 (https://nvidia.github.io/numba-cuda/user/cuda_array_interface.html).
#pragma once

#include <cstdint>
#include <optional>

#include "bind/foreign_array.h"

namespace fusednn {

// The array, on the device that its memory is of. Throws Python's exception, with the argument's name, for all that is not
// as the interface asks or that has no form here.
ForeignArray read_cuda_interface(const Name& name, py::handle array, Elements elements);

// The stream that the array's interface names, if it has one and names one.
std::optional<uintptr_t> stream_of_interface(const Name& name, py::handle array);

}  // namespace fusednn
