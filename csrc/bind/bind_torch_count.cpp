// A count of PyTorch's, `num_batches_tracked`: to add 1 to it by PyTorch's `add_` takes as long as the kernel of a small layer.
#include <cstdint>

#include "bind/families.h"
#include "bind/positional.h"
#include "bind/torch_tensor.h"

namespace fusednn {
namespace {

// False, and nothing done, where `counter` is not one integer of 64 bits in a plain tensor on the CPU.
bool count_up(py::handle counter) {
  const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(counter.ptr()));
  if (api == nullptr) return false;
  dlpack::Tensor from;
  if (api->tensor_from_object(counter.ptr(), &from) != 0) {
    PyErr_Clear();
    return false;
  }
  const bool known = from.device.type == dlpack::kCpu && from.data != nullptr && from.ndim == 0 &&
                     from.dtype.lanes == 1 && from.dtype.code == dlpack::kInt && from.dtype.bits == 64;
  if (known) ++*static_cast<int64_t*>(from.first());
  return known;
}

}  // namespace

void register_torch_count(py::module_& m) { add_positional<&count_up>(m, "count_up", "counter"); }

}  // namespace fusednn
