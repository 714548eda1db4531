// A step of torch.optim's optimizers over parameters that have their states. Walking lists, looking up states and counting
// steps takes longer in Python than the update of many small tensors.
//
// What is unusual or wrong is left to Python, which makes states, copies and messages.
#include <cmath>
#include <deque>
#include <optional>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/optimizer_plans.h"
#include "bind/positional.h"
#include "bind/torch_group.h"

namespace fusednn {
namespace {

// A parameter group's place in the tuple that Python describes it with.
enum : Py_ssize_t { kParams, kStateNames, kHyperparameters, kWeightDecay, kDecoupled, kMaximize, kDescriptionSize };

struct GroupStep {
  TorchGroup group;
  fnn_optimizer_options options;
  PlanLease* lease = nullptr;
};

py::handle item(py::handle description, Py_ssize_t i) { return PyTuple_GET_ITEM(description.ptr(), i); }

void read_options(const Kind& kind, py::handle description, fnn_optimizer_options& o) {
  for_named("hyperparameters", item(description, kHyperparameters), kind.hyperparameters,
            [&](size_t i, const py::object& value) {
              o.given |= 1U << i;
              o.hyperparameters[i] = real(kind.hyperparameters.all[i].c_str(), value);
            });
  o.weight_decay = real("weight_decay", item(description, kWeightDecay));
  o.decoupled_weight_decay = flag("decoupled_weight_decay", item(description, kDecoupled)) ? 1 : 0;
  o.maximize = flag("maximize", item(description, kMaximize)) ? 1 : 0;
}

// Clips the gradients of all groups together: by the kernel where there is one group, else by what they are divided by.
// False where the norm is not finite.
bool clip(std::deque<GroupStep>& steps, double max_norm) {
  if (steps.size() == 1) {
    steps[0].options.max_norm = max_norm;
    return true;
  }
  std::vector<fnn_tensor> grads;
  for (const GroupStep& step : steps) {
    grads.insert(grads.end(), step.group.grads().begin(), step.group.grads().end());
  }
  double norm = 0.0;
  run([&] { return fnn_global_norm(static_cast<int64_t>(grads.size()), grads.data(), &norm); });
  for (GroupStep& step : steps) {
    const double factor = max_norm / (norm / step.options.grad_scale + 1e-6);
    if (factor < 1.0) step.options.grad_scale /= factor;
  }
  return std::isfinite(norm);
}

// The parameters that were stepped; None where Python has to do it. `groups` are tuples as above, `state` the
// optimizer's, `ema_momentum` None where there are no averages.
py::object torch_step(py::handle kind_name, py::handle groups, py::handle state, py::handle counts,
                      py::handle grad_scale, py::handle max_norm, py::handle ema_momentum) {
  const Kind& kind = kind_of(text("kind", kind_name));
  fnn_optimizer_options common{};
  common.size = sizeof common;
  common.convention = FNN_TORCH;
  common.grad_scale = optional_real("grad_scale", grad_scale).value_or(1.0);
  common.clip_value = common.max_norm_each = common.max_norm = HUGE_VAL;
  common.ema_momentum = optional_real("ema_momentum", ema_momentum).value_or(0.0);
  TorchStateNames names{};
  names.counts = flag("counts", counts);
  names.averages = !ema_momentum.is_none();

  std::deque<GroupStep> steps;  // none moves
  const auto list = py::reinterpret_borrow<py::list>(groups);
  for (const py::handle description : list) {
    names.states.fill(nullptr);
    for_named("states", item(description, kStateNames), kind.states,
              [&](size_t i, const py::object& name) { names.states[i] = name.ptr(); });
    GroupStep& step = steps.emplace_back(GroupStep{{}, common});
    if (!step.group.read(item(description, kParams), state, names)) return py::none();
    if (step.group.empty()) {
      steps.pop_back();
    } else {
      read_options(kind, description, step.options);
    }
  }
  const std::optional<double> limit = optional_real("max_norm", max_norm);
  if (limit.has_value() && !steps.empty() && !clip(steps, *limit)) return py::none();

  std::deque<PlanLease> leases;
  for (GroupStep& step : steps) {
    const int64_t elements = step.group.elements();
    if (elements == 0) continue;  // plans of such groups cannot be told apart
    const fnn_optimizer_tensors tensors = step.group.tensors();
    step.lease = &leases.emplace_back(ReadLists{kind.number, tensors});
    if (step.lease->found()) continue;
    fnn_optimizer_plan* plan = nullptr;
    if (fnn_optimizer_plan_create(kind.number, &tensors, &plan) != FNN_SUCCESS) return py::none();
    step.lease->take(OwnedPlan(plan), elements, true);
  }
  for (const GroupStep& step : steps) {  // all or none
    if (step.lease == nullptr) continue;
    const fnn_status status =
        fnn_optimizer_plan_check(step.lease->plan(), &step.options, step.group.steps(), step.group.step_count());
    if (status != FNN_SUCCESS) return py::none();  // who checks there has PyTorch's names
  }
  py::list stepped;
  for (const GroupStep& step : steps) {
    if (step.lease != nullptr) {
      run(step.lease->elements(), [&] {
        return fnn_optimizer_plan_step(step.lease->plan(), &step.options, step.group.steps(), step.group.step_count(),
                                       nullptr);
      });
    }
    step.group.count();
    step.group.append_owners(stepped);
  }
  return stepped;
}

}  // namespace

void register_torch_step(py::module_& m) {
  add_positional<&torch_step>(m, "torch_step", "kind, groups, state, counts, grad_scale, max_norm, ema_momentum");
}

}  // namespace fusednn
