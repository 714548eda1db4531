// PyTorch's tensors. Where their type offers DLPack's exchange API (PyTorch 2.10 and later), one is read by a call of a C
// function, some twenty times faster than through a capsule.
#pragma once

#include <pybind11/pybind11.h>

#include "core/dlpack.h"
#include "core/name.h"
#include "fusednn/fusednn.h"

namespace fusednn {

namespace py = pybind11;

// Of torch.Tensor, torch.nn.Parameter or a subclass. No call imports PyTorch: who has a tensor did.
bool is_torch_tensor(py::handle object);

// Of just torch.Tensor or torch.nn.Parameter.
bool is_plain_tensor(py::handle object);

// The exchange API for objects of just this type, or null. It is for torch.Tensor and torch.nn.Parameter alone:
// their subclasses inherit it, and those that wrap other tensors or none at all have no memory to offer.
const dlpack::ExchangeApi* exchange_api_of(PyTypeObject* type);

// Whether the exchange API is used where there is one, true at first. Returns what was set before.
bool use_exchange_api(bool use);

// One call from Python: whether autograd records is asked once, not for each of its arrays.
class RecordingScope {
 public:
  RecordingScope();
  RecordingScope(const RecordingScope&) = delete;
  RecordingScope& operator=(const RecordingScope&) = delete;
  ~RecordingScope();

 private:
  int outer_;
};

// Throws where autograd records and would not know of what the kernels do.
void require_not_recorded(const Name& name, py::handle tensor);

// Throws where the values in memory are to be negated first: in the imaginary part of a conjugated complex tensor. Such
// a view has gaps between its elements, or one element.
void require_not_negated(const Name& name, py::handle tensor);

// A detached tensor with the shape and strides of `layout`, and the values of `tensor`.
py::object copy_laid_out_as(py::handle tensor, const fnn_tensor& layout);
// The same with memory in C order.
py::object contiguous_copy(py::handle tensor);
// The same with dense memory, the axes in their order.
py::object dense_copy(py::handle tensor);

}  // namespace fusednn
