// The parameters, gradients and states of a parameter group of torch.optim, read where they are: in `.grad` of the
// parameters and in the optimizer's dicts.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <vector>

#include "bind/optimizer_kinds.h"
#include "bind/torch_reader.h"
#include "fusednn/fusednn.h"

namespace fusednn {

namespace py = pybind11;

// The names of an optimizer's states in torch.optim, in the order of the kernel's; null for those that are not used.
struct TorchStateNames {
  std::array<PyObject*, FNN_MAX_STATES> states{};
  bool counts;    // a state named "step"
  bool averages;  // a state named "ema"
};

class TorchGroup {
 public:
  // Reads those of `params`, a list, that have gradients. False where something is not as a plan could know it: a state
  // that is missing, a subclass, a sparse gradient, a tensor on a GPU, a count that is no number of the CPU's.
  bool read(py::handle params, py::handle state, const TorchStateNames& names);

  bool empty() const { return params_.empty(); }
  // Elements of the parameters.
  int64_t elements() const;
  // The lists, as long as nothing else is done with this group.
  fnn_optimizer_tensors tensors() const;
  const std::vector<fnn_tensor>& grads() const { return grads_; }

  // The number of this update: one, or one per parameter.
  const int64_t* steps() const { return steps_.data(); }
  int64_t step_count() const { return static_cast<int64_t>(steps_.size()); }
  // After the step.
  void count() const;

  // The parameters that have gradients are appended.
  void append_owners(py::list& to) const;

 private:
  struct Counter {
    void* data;
    bool in_double;
  };

  // Of a dict that is walked once, each entry's place as far as it was reached.
  struct Walk {
    PyObject* dict;
    Py_ssize_t next = 0;
  };

  void reserve(size_t count, const TorchStateNames& names);
  bool add(const py::object& param, py::object grad, Walk& states, const TorchStateNames& names);
  bool add_states(PyObject* own, const TorchStateNames& names);
  bool add_counter(PyObject* step);

  TorchReader reader_;
  std::vector<fnn_tensor> params_, grads_, averages_;
  std::array<std::vector<fnn_tensor>, FNN_MAX_STATES> states_;
  std::vector<Counter> counters_;
  std::vector<int64_t> steps_;
  std::vector<py::object> owners_;
  std::vector<py::object> kept_;  // gradients and states: while other threads run, their places may lose them
};

}  // namespace fusednn
