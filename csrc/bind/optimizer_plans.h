// Checked lists of recent optimizer steps. A training loop passes the same lists again and again; reading and checking
// hundreds of small arrays takes longer than updating them, comparing them with the last time's does not.
//
// What is compared is all that a check depends on (optimizer_words.h): the optimizer, each list's length, each array's
// address, dtype, shape, strides and whether it is writable. Which objects hold them does not matter, so none are kept
// alive. The GIL guards the cache. NumPy's arrays, those of 8-bit states too, are compared as they lie in their lists, those
// of other packages after they were read. Where the gradients alone are others, as after each backward pass of most
// programs, the plan takes them: of the CPU's, after it has checked them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "fusednn/fusednn.h"

namespace fusednn {

namespace py = pybind11;

struct DestroyPlan {
  void operator()(fnn_optimizer_plan* plan) const { fnn_optimizer_plan_destroy(plan); }
};
using OwnedPlan = std::unique_ptr<fnn_optimizer_plan, DestroyPlan>;

struct ListWords {
  std::vector<int64_t> fixed, grads;
};

// The lists of one call, in a fixed order; None for those that are absent.
struct OptimizerLists {
  static constexpr size_t kParams = 0, kGrads = 1;  // then the others

  int32_t kind;
  const py::object* lists;
  size_t count;
};

// The same when they were read.
struct ReadLists {
  int32_t kind;
  const fnn_optimizer_tensors& tensors;
};

// References to all arrays of lists that a plan was found for: while other threads run, the lists may lose them.
std::vector<py::object> items_of(const OptimizerLists& of);

// A plan for one step. No other call has it meanwhile.
class PlanLease {
 public:
  // The plan of a recent call with such lists, if there is one. Lists of NumPy's arrays are known unread, others by
  // `find` once they are.
  explicit PlanLease(const OptimizerLists& lists);
  // The plan of a recent call with lists that were read as these, if there is one.
  explicit PlanLease(const ReadLists& lists);
  PlanLease(const PlanLease&) = delete;
  PlanLease& operator=(const PlanLease&) = delete;
  ~PlanLease();

  bool found() const { return plan_ != nullptr; }
  fnn_optimizer_plan* plan() const { return plan_; }
  // Elements of the parameters.
  int64_t elements() const { return elements_; }

  // Where none was found: whether NumPy has made all arrays, and the same for lists that were read, where it has not.
  bool of_numpy() const { return of_numpy_; }
  void find(const ReadLists& lists);
  // Where none was found: takes a new plan, and remembers it, if it works on the arrays that were given.
  void take(OwnedPlan plan, const OptimizerLists& lists, int64_t elements, bool on_given_arrays);
  void take(OwnedPlan plan, int64_t elements, bool remember);

 private:
  struct Entry;
  class Cache;
  static Cache& cache();
  void lease(Entry* entry);

  fnn_optimizer_plan* plan_ = nullptr;
  int64_t elements_ = 0;
  Entry* entry_ = nullptr;
  OwnedPlan own_;
  ListWords words_;  // where none was found: of the lists before anybody read them, but those that `find` compared
  bool of_numpy_ = false;
};

}  // namespace fusednn
