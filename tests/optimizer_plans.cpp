// What csrc/xla/optimizer_plans.h finds by: prints each thing that differs and is found all the same, then how many
// plans of `kPlans` are still there.
#include "xla/optimizer_plans.h"

#include <cstdio>
#include <functional>

namespace {

constexpr int kPlans = 20;
int destroyed = 0;

fnn_optimizer_plan* plan_of(int number) {
  static char plans[kPlans + 1];
  return reinterpret_cast<fnn_optimizer_plan*>(&plans[number]);
}

}  // namespace

void fnn_optimizer_plan_destroy(fnn_optimizer_plan*) { ++destroyed; }

int main() {
  using fusednn::handlers::OptimizerPlans;
  using fusednn::handlers::Place;
  static float memory[64];
  const std::vector<Place> kept = {{memory, 128, FNN_FLOAT16}, {memory + 32, 128, FNN_FLOAT16}};
  {
    OptimizerPlans plans;
    const auto found = [&](const std::vector<Place>& places, int64_t kind, int64_t states) {
      return plans.find(kind, states, [&](const std::vector<Place>& of) { return of == places; }) != nullptr;
    };
    if (found(kept, 1, 3)) std::puts("nothing");
    plans.keep(1, 3, kept, plan_of(0));
    if (!found(kept, 1, 3)) std::puts("not the same");

    const auto with = [&](const std::function<void(Place&)>& change, size_t which) {
      std::vector<Place> changed = kept;
      change(changed[which]);
      return changed;
    };
    for (size_t which : {0, 1}) {
      if (found(with([](Place& p) { p.bytes = 64; }, which), 1, 3)) std::puts("size");
      if (found(with([](Place& p) { p.dtype = FNN_BFLOAT16; }, which), 1, 3)) std::puts("dtype");
      if (found(with([](Place& p) { p.data = memory + 1; }, which), 1, 3)) std::puts("address");
    }
    if (found({kept[0]}, 1, 3)) std::puts("fewer arrays");
    if (found({kept[0], kept[1], kept[1]}, 1, 3)) std::puts("more arrays");
    if (found({kept[1], kept[0]}, 1, 3)) std::puts("order");
    if (found(kept, 2, 3)) std::puts("kind");
    if (found(kept, 1, 1)) std::puts("states");

    for (int i = 1; i < kPlans; ++i) {
      const std::vector<Place> next = with([i](Place& p) { p.data = memory + i; }, 0);
      plans.keep(1, 3, next, plan_of(i));
      if (!found(next, 1, 3)) std::puts("not the newest");
    }
    if (found(kept, 1, 3)) std::puts("the oldest");
    std::printf("%d kept\n", kPlans - destroyed);
  }
  std::printf("%d kept\n", kPlans - destroyed);
}
