// The lists of arrays of an optimizer: checked once, written down as OptimizerTensors, stepped many times.
#pragma once

#include <vector>

#include "core/device.h"
#include "core/list_memory.h"
#include "fusednn/fusednn.h"
#include "math/optimizer.h"

namespace fusednn {

// An optimizer's states, and its hyper-parameters, which say which of them a step uses.
struct StateTable {
  const State* states;
  int count;
  const Hyperparameter* hyperparameters;
};

class OptimizerList {
 public:
  // All that depends on the arrays alone; a Failure names the argument. `list.steps` is not read.
  OptimizerList(const StateTable& table, const fnn_optimizer_tensors& list);

  // As many other gradients, checked as those before. Where one is refused, these stay.
  void set_grads(const fnn_tensor* grads);

  // Fills in the step's tensors, which live as long as nothing else is done with this list. Checks what depends on the
  // options too. States that they do not use are absent: they stay as they are.
  void prepare(OptimizerStep& step, const int64_t* steps, int64_t step_count);

  // On which device the arrays are.
  bool on_cuda() const { return device_id_ >= 0; }
  int32_t device_id() const { return device_id_; }

 private:
  void keep_params(const fnn_tensor* params, int64_t count);
  bool needs(const OptimizerStep& step, int state) const;
  // All that a step needs are given, and none that a flag would have to ask for. A number, `momentum`, may be 0 for a
  // while: buffers stay as they are then.
  void require_states(const OptimizerStep& step) const;

  const StateTable table_;
  std::vector<OptimizerTensor> tensors_;
  std::vector<OptimizerTensor> reduced_;  // where a step leaves some states alone
  std::vector<double> norms_;
  // What new gradients are compared with: the params' shapes, and all memory that is written.
  std::vector<fnn_tensor> params_;
  std::vector<int64_t> shapes_;  // and strides, of all of them
  ListMemory memory_;
  std::vector<Stream> grads_;  // that were checked, while others are
  int64_t total_ = 0;
  int32_t device_id_ = -1;      // the CPU
  int64_t first_not_bfloat16_;  // of the params; -1: there is none
  bool given_[FNN_MAX_STATES] = {};
  bool has_averages_ = false;
  int64_t first_codes_[FNN_MAX_STATES];  // of each list of states; -1: there is none
};

}  // namespace fusednn
