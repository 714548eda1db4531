#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "bind/array_view.h"
#include "bind/device_scalars.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/optimizer_kinds.h"
#include "bind/optimizer_plans.h"
#include "bind/positional.h"
#include "bind/state_list.h"

namespace fusednn {
namespace {

// One step for all arrays, or one each. `on_device`: it is read from there, and this one stands for it.
struct Steps {
  Steps(py::handle step, bool on_device) {
    if (on_device) {
      one = 1;
      return;
    }
    if (py::isinstance<py::str>(step) || !py::isinstance<py::sequence>(step)) {
      one = integer("step", step);
      return;
    }
    single = false;
    for (const py::handle item : py::reinterpret_borrow<py::sequence>(step)) many.push_back(integer("step", item));
  }
  const int64_t* data() const { return single ? &one : many.data(); }
  int64_t count() const { return single ? 1 : static_cast<int64_t>(many.size()); }

  bool single = true;
  int64_t one = 0;
  std::vector<int64_t> many;
};

uint64_t seed_of(const char* name, py::handle value) {
  const auto received = [&] { return std::string(". Received: ") + name + "=" + py::repr(value).cast<std::string>(); };
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index || PyBool_Check(value.ptr())) {
    PyErr_Clear();
    throw py::type_error(std::string("`") + name + "` must be an integer or None" + received());
  }
  const uint64_t seed = PyLong_AsUnsignedLongLong(index.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(std::string("`") + name + "` must be in [0, 2**64)" + received());
  }
  return seed;
}

// The lists of a call, in this order, then the states.
constexpr size_t kParams = OptimizerLists::kParams, kGrads = OptimizerLists::kGrads, kEma = 2, kCopies = 3, kStates = 4;
using Lists = std::array<py::object, kStates + FNN_MAX_STATES>;

// What a new plan works on, and the references to it.
struct Views {
  std::vector<ArrayList> arrays;
  std::vector<StateList> states;
};

// Reads the lists.
fnn_optimizer_tensors read_lists(const Kind& kind, const Lists& lists, Views& views) {
  if (lists[kGrads].is_none()) throw py::type_error("`grads` must be a list of arrays. Received: type=NoneType");
  views.arrays.reserve(kStates);
  const ArrayList& params = views.arrays.emplace_back("params", lists[kParams], ArrayView::as_it_is);
  const auto read = [&](const char* name, size_t list, bool laid_out_alike) {
    return views.arrays.emplace_back(name, lists[list], params, laid_out_alike).data();
  };
  fnn_optimizer_tensors t{};
  t.size = sizeof t;
  t.count = params.size();
  t.params = params.data();
  t.grads = read("grads", kGrads, true);
  t.ema = read("ema", kEma, false);
  t.low_precision_copies = read("low_precision_copies", kCopies, false);
  views.states.reserve(kind.states.all.size());
  for (size_t i = 0; i < kind.states.all.size(); ++i) {
    const StateList& list = views.states.emplace_back(kind.states.all[i].c_str(), lists[kStates + i], params.size());
    t.states[i] = list.data();
    t.state_scales[i] = list.scales();
  }
  return t;
}

// Checks them.
OwnedPlan new_plan(const ReadLists& lists) {
  fnn_optimizer_plan* plan = nullptr;
  check(fnn_optimizer_plan_create(lists.kind, &lists.tensors, &plan));
  return OwnedPlan(plan);
}

// Hyper-parameters and states arrive by name, so that this function serves every optimizer. `check_only`: everything
// but the step itself.
bool optimizer_step(py::handle kind_name, py::handle params, py::handle grads, py::handle states, py::handle step,
                    py::handle convention, py::handle hyperparameters, py::handle weight_decay,
                    py::handle decoupled_weight_decay, py::handle maximize, py::handle grad_scale,
                    py::handle clip_value, py::handle max_norm_each, py::handle max_norm, py::handle skip_nonfinite,
                    py::handle ema, py::handle ema_momentum, py::handle low_precision_copies,
                    py::handle stochastic_rounding_seed, py::handle found_inf, py::handle check_only) {
  const Kind& kind = kind_of(text("kind", kind_name));
  fnn_optimizer_options o{};
  o.size = sizeof o;
  o.convention = convention_of(text("convention", convention));
  o.weight_decay = real("weight_decay", weight_decay);
  const std::optional<bool> decoupled = optional_flag("decoupled_weight_decay", decoupled_weight_decay);
  o.decoupled_weight_decay = decoupled.has_value() ? *decoupled : -1;
  o.maximize = flag("maximize", maximize);
  DeviceScalars on_device;
  const bool device_grad_scale = on_device.take("grad_scale", grad_scale, on_device.scalars.grad_scale);
  o.grad_scale = device_grad_scale ? 1.0 : optional_real("grad_scale", grad_scale).value_or(1.0);
  on_device.take_only("found_inf", found_inf, on_device.scalars.found_inf);
  o.clip_value = optional_real("clip_value", clip_value).value_or(HUGE_VAL);
  o.max_norm_each = optional_real("max_norm_each", max_norm_each).value_or(HUGE_VAL);
  o.max_norm = optional_real("max_norm", max_norm).value_or(HUGE_VAL);
  o.skip_nonfinite = flag("skip_nonfinite", skip_nonfinite);
  o.ema_momentum = optional_real("ema_momentum", ema_momentum).value_or(ema.is_none() ? 0.0 : 0.99);
  o.stochastic_rounding = !stochastic_rounding_seed.is_none();
  if (o.stochastic_rounding) o.stochastic_rounding_seed = seed_of("stochastic_rounding_seed", stochastic_rounding_seed);
  for_named("hyperparameters", hyperparameters, kind.hyperparameters, [&](size_t i, const py::object& value) {
    if (value.is_none()) return;
    o.given |= 1u << i;
    const std::string& name = kind.hyperparameters.all[i];
    if (name == "lr" && on_device.take("lr", value, on_device.scalars.lr)) return;
    o.hyperparameters[i] = real(name.c_str(), value);
  });
  Lists lists;
  lists.fill(py::none());
  for_named("states", states, kind.states, [&](size_t i, const py::object& value) { lists[kStates + i] = value; });
  lists[kParams] = py::reinterpret_borrow<py::object>(params);
  lists[kGrads] = py::reinterpret_borrow<py::object>(grads);
  lists[kEma] = py::reinterpret_borrow<py::object>(ema);
  lists[kCopies] = py::reinterpret_borrow<py::object>(low_precision_copies);
  const Steps steps(step, on_device.take_written("step", step, on_device.scalars.step));
  if (on_device.any()) o.device_scalars = &on_device.scalars;

  // From here to the step no Python code may run where a plan was found, so that it stays the lists' plan.
  const OptimizerLists all{kind.number, lists.data(), lists.size()};
  PlanLease lease(all);
  Views views;
  std::vector<py::object> items;
  if (!lease.found()) {
    const fnn_optimizer_tensors tensors = read_lists(kind, lists, views);
    if (!lease.of_numpy()) lease.find({kind.number, tensors});
    on_device.require_beside(tensors);
    if (!lease.found()) {
      bool copied = false;
      for (const ArrayList& list : views.arrays) copied = copied || list.copied();
      lease.take(new_plan({kind.number, tensors}), all, views.arrays[0].elements(), !copied);
    }
  } else {
    on_device.require_beside({});  // only NumPy's arrays are found unread
    if (lease.elements() >= kWorthReleasing) items = items_of(all);
  }
  if (flag("check_only", check_only)) {
    check(fnn_optimizer_plan_check(lease.plan(), &o, steps.data(), steps.count()));
    return true;
  }
  int32_t stepped = 0;
  run(lease.elements(),
      [&] { return fnn_optimizer_plan_step(lease.plan(), &o, steps.data(), steps.count(), &stepped); });
  return stepped != 0;
}

void codes_to_float(py::handle codes, py::handle scales, py::handle is_signed, py::handle values) {
  const fnn_tensor c = codes_view("codes", codes, flag("signed", is_signed));
  const ArrayView s("scales", scales);
  const ArrayView v("values", values);
  run(v.size(), [&] { return fnn_codes_to_float(&c, s.tensor(), v.tensor()); });
}

void codes_from_float(py::handle values, py::handle codes, py::handle scales, py::handle is_signed) {
  const ArrayView v("values", values);
  const fnn_tensor c = codes_view("codes", codes, flag("signed", is_signed));
  const ArrayView s("scales", scales);
  run(v.size(), [&] { return fnn_codes_from_float(v.tensor(), &c, s.tensor()); });
}

double global_norm(py::handle arrays) {
  const ArrayList list("arrays", arrays, ArrayView::dense);
  double norm = 0.0;
  run([&] { return fnn_global_norm(list.size(), list.data(), &norm); });
  return norm;
}

}  // namespace

void register_optimizer(py::module_& m) {
  kinds();  // not in the first call of a thread that may be about to end
  using py::arg;
  add_positional<&optimizer_step>(
      m, "optimizer_step",
      "kind, params, grads, states, step, convention, hyperparameters, weight_decay, decoupled_weight_decay, maximize, "
      "grad_scale, clip_value, max_norm_each, max_norm, skip_nonfinite, ema, ema_momentum, low_precision_copies, "
      "stochastic_rounding_seed, found_inf, check_only");
  add_positional<&global_norm>(m, "global_norm", "arrays");
  add_positional<&codes_to_float>(m, "codes_to_float", "codes, scales, signed, values");
  add_positional<&codes_from_float>(m, "codes_from_float", "values, codes, scales, signed");
  m.def("optimizer_names", [] { return names(&fnn_optimizer_name); });
  m.def(
      "optimizer_hyperparameters", [](const std::string& kind) { return kind_of(kind).hyperparameters.all; },
      arg("kind"));
  m.def("optimizer_states", [](const std::string& kind) { return kind_of(kind).states.all; }, arg("kind"));
  m.def("convention_names", [] { return names(&fnn_convention_name); });
}

}  // namespace fusednn
