// The memory of plain tensors on the CPU, for who reads many of them and leaves all that is unusual to others.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "fusednn/fusednn.h"

namespace fusednn {

class TorchReader {
 public:
  // Just as array_view.h describes it, as long as the tensor and this reader live. False where it is no torch.Tensor or
  // torch.nn.Parameter of the CPU's that is dense or strided, of a dtype that kernels take.
  bool read(PyObject* tensor, fnn_tensor& to);

 private:
  bool read_attributes(PyObject* tensor, fnn_tensor& to);

  std::vector<std::vector<int64_t>> sizes_;  // shape and strides of those that are read by their attributes
};

}  // namespace fusednn
