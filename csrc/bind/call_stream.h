// The one CUDA stream that a call from Python computes on, whatever packages its arrays come from.
//
// It is that of the first array on a GPU: the stream that PyTorch or CuPy works on now on that device, the one that the
// CUDA array interface names, else the legacy default stream. Who made the other arrays may have another one: the call's
// waits for it, and afterwards it waits for the call's, as the call may have written the array. Producers that name none
// are told the call's through DLPack, and make it wait themselves.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/name.h"

namespace fusednn {

namespace py = pybind11;

// One call from Python.
class CallStream {
 public:
  CallStream();
  CallStream(const CallStream&) = delete;
  CallStream& operator=(const CallStream&) = delete;
  ~CallStream();

  // An array on a GPU takes part. Returns what its producer is to be told by DLPack: the call's stream, or -1 where there
  // is nothing left to wait for.
  int64_t join(const Name& name, py::handle array, int32_t device_id);
  // The same for one that says itself on which stream it may be used, if on any.
  int64_t join(const Name& name, py::handle array, int32_t device_id, std::optional<uintptr_t> own,
               bool of_package = false);

  // When all is enqueued: the streams that were waited for wait in turn.
  void finish();

  // Of the first array on a GPU; 0 where there was none yet.
  int32_t device_id() const { return device_id_; }

 private:
  void choose(py::handle array, int32_t device_id, std::optional<uintptr_t> own, bool of_package);
  void wait_for(const Name& name, py::handle array, uintptr_t other);

  CallStream* outer_;
  const PyTypeObject* type_ = nullptr;  // of an array on a GPU
  bool of_package_ = false;             // all arrays of the type on the device have the call's stream
  int32_t device_id_ = 0;
  uintptr_t stream_ = 0;
  std::vector<uintptr_t> joined_;
};

// The call that this thread is in.
CallStream& current_call();

// Before anything is done with memory on a GPU: throws where there is none that this library can use.
void require_cuda(const Name& name, py::handle array);

// The package that the array's type is from: "torch", "cupy".
std::string package_of(py::handle array);

// Whether it is a tensor of PyTorch's, or of a subclass defined elsewhere.
bool is_of_torch(py::handle array);

// Python hands addresses over as numbers.
void* address_of(uintptr_t number);

}  // namespace fusednn
