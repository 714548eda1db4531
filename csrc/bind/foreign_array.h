// Arrays of other packages: PyTorch's tensors through C, whatever has `__dlpack__` (CuPy, JAX, PyTorch before 2.10, ...)
// or `__cuda_array_interface__`.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "core/name.h"
#include "fusednn/fusednn.h"

namespace fusednn {

namespace py = pybind11;

struct ForeignArray {
  fnn_tensor tensor;  // without shape and strides, which are here:
  std::vector<int64_t> shape, strides;
  py::object owner;  // keeps the memory alive
};

bool is_foreign_array(py::handle object);

// What an array must hold. Codes are bytes, whose dtype is FNN_UNSIGNED_CODES here.
enum class Elements { kNumbers, kCodes };

// The array as its package's exchange API describes it, with shape and strides that belong to the array; false where
// there is no such API for its type. Throws as read_foreign_array does.
bool read_exchanged_array(const Name& name, py::handle array, Elements elements, fnn_tensor& tensor);

// Throws where the axes are not described as any array's can be. To be asked before the shape is read.
void require_axes(const Name& name, int64_t count, const int64_t* shape);

// Throws Python's exception for a dtype or device that is not known.
ForeignArray read_foreign_array(const Name& name, py::handle array, Elements elements);

}  // namespace fusednn
