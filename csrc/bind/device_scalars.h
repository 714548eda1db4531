// Numbers of an optimizer step that lie in a GPU's memory: arrays of one float32 in place of Python's numbers.
#pragma once

#include <vector>

#include "bind/array_view.h"

namespace fusednn {

class DeviceScalars {
 public:
  // Whether `value` is such an array; its address goes to `to`. Numbers, None and the CPU's arrays are not.
  bool take(const char* name, py::handle value, const float*& to);
  // The same for one that the step writes.
  bool take_written(const char* name, py::handle value, float*& to);
  // None, or such an array: nothing else.
  void take_only(const char* name, py::handle value, const float*& to);

  bool any() const { return !taken_.empty(); }
  // They must be on the device of the lists.
  void require_beside(const fnn_optimizer_tensors& lists) const;

  fnn_device_scalars scalars{};

 private:
  struct Taken {
    const char* name;
    ArrayView view;
  };
  const ArrayView* view_of(const char* name, py::handle value);

  std::vector<Taken> taken_;
};

}  // namespace fusednn
