// The plans of lists that an XLA program steps again and again, as a loop does: its buffers stay where they are.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "fusednn/fusednn.h"

namespace fusednn::handlers {

// All that a plan depends on of one array; XLA's have no gaps.
struct Place {
  const void* data;
  size_t bytes;
  int32_t dtype;
  bool operator==(const Place& other) const {
    return data == other.data && bytes == other.bytes && dtype == other.dtype;
  }
};

// A plan is good for as long as its arrays' memory keeps its address, size and type, so those are what it is found by.
// Each thread has its own: a plan makes one step at a time, and no other thread has to be waited for.
class OptimizerPlans {
 public:
  static OptimizerPlans& of_this_thread() {
    thread_local OptimizerPlans plans;
    return plans;
  }

  // The plan of the arrays of which same(places) is true, or null. `states`: bit i, there are states i.
  template <class Same>
  fnn_optimizer_plan* find(int64_t kind, int64_t states, const Same& same) const {
    for (const Kept& kept : kept_) {
      if (kept.plan != nullptr && kept.kind == kind && kept.states == states && same(kept.places)) {
        return kept.plan.get();
      }
    }
    return nullptr;
  }

  // Keeps a new plan, in place of the oldest. `places` are in the order of operands and results.
  void keep(int64_t kind, int64_t states, std::vector<Place> places, fnn_optimizer_plan* plan) {
    Kept& kept = kept_[next_];
    next_ = (next_ + 1) % kept_.size();
    kept.plan.reset(plan);
    kept.kind = kind;
    kept.states = states;
    kept.places = std::move(places);
  }

 private:
  struct Destroy {
    void operator()(fnn_optimizer_plan* plan) const { fnn_optimizer_plan_destroy(plan); }
  };
  struct Kept {
    int64_t kind, states;
    std::vector<Place> places;
    std::unique_ptr<fnn_optimizer_plan, Destroy> plan;
  };

  std::array<Kept, 8> kept_{};
  size_t next_ = 0;
};

}  // namespace fusednn::handlers
