#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <cmath>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"

namespace fusednn {
namespace {

// The names at index 0, 1, ... of one of the C API's lists.
template <class NameAt>
std::vector<std::string> names(const NameAt& name_at) {
  std::vector<std::string> result;
  for (int32_t i = 0; name_at(i) != nullptr; ++i) result.emplace_back(name_at(i));
  return result;
}

// "a, b, c", for messages.
std::string listed(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& name : all) text += (text.empty() ? "" : ", ") + name;
  return text;
}

int32_t kind_of(const std::string& name) {
  const int32_t kind = fnn_optimizer_kind(name.c_str());
  if (kind < 0) {
    throw py::value_error("`kind` must be one of " + listed(names(&fnn_optimizer_name)) + ". Received: kind=" + name);
  }
  return kind;
}

int32_t convention_of(const std::string& name) {
  for (int32_t i = 0; fnn_convention_name(i) != nullptr; ++i) {
    if (name == fnn_convention_name(i)) return i;
  }
  throw py::value_error("`convention` must be one of " + listed(names(&fnn_convention_name)) +
                        ". Received: convention=" + name);
}

using Named = py::typing::Dict<py::str, py::object>;

// Whoever misspells a name must hear of it.
void require_known(const char* argument, const Named& given, const std::vector<std::string>& known) {
  for (const auto& [key, value] : given) {
    bool found = false;
    for (const std::string& name : known) found = found || text(argument, key) == name;
    if (!found) {
      throw py::type_error(std::string("`") + argument + "` must be among " + listed(known) +
                           ". Received: " + py::repr(key).cast<std::string>());
    }
  }
}

// One step for all arrays, or one each.
std::vector<int64_t> steps_of(py::handle step) {
  if (py::isinstance<py::str>(step) || !py::isinstance<py::sequence>(step)) return {integer("step", step)};
  std::vector<int64_t> steps;
  for (const py::handle item : py::reinterpret_borrow<py::sequence>(step)) steps.push_back(integer("step", item));
  return steps;
}

// Hyper-parameters and states arrive by name, so that this function serves every optimizer.
bool optimizer_step(const std::string& kind_name, py::handle params, py::handle grads, const Named& states,
                    py::handle step, py::handle convention, const Named& hyperparameters, py::handle weight_decay,
                    py::handle decoupled_weight_decay, py::handle maximize, py::handle grad_scale,
                    py::handle clip_value, py::handle max_norm_each, py::handle max_norm, py::handle skip_nonfinite,
                    py::handle ema, py::handle ema_momentum, py::handle low_precision_copies) {
  const int32_t kind = kind_of(kind_name);
  fnn_optimizer_options o{};
  o.size = sizeof o;
  o.convention = convention_of(text("convention", convention));
  o.weight_decay = real("weight_decay", weight_decay);
  const std::optional<bool> decoupled = optional_flag("decoupled_weight_decay", decoupled_weight_decay);
  o.decoupled_weight_decay = decoupled.has_value() ? *decoupled : -1;
  o.maximize = flag("maximize", maximize);
  o.grad_scale = optional_real("grad_scale", grad_scale).value_or(1.0);
  o.clip_value = optional_real("clip_value", clip_value).value_or(HUGE_VAL);
  o.max_norm_each = optional_real("max_norm_each", max_norm_each).value_or(HUGE_VAL);
  o.max_norm = optional_real("max_norm", max_norm).value_or(HUGE_VAL);
  o.skip_nonfinite = flag("skip_nonfinite", skip_nonfinite);
  o.ema_momentum = real("ema_momentum", ema_momentum);
  const auto own = names([kind](int32_t i) { return fnn_optimizer_hyperparameter(kind, i); });
  const auto own_states = names([kind](int32_t i) { return fnn_optimizer_state(kind, i); });
  require_known("hyperparameters", hyperparameters, own);
  require_known("states", states, own_states);
  for (size_t i = 0; i < own.size(); ++i) {
    const char* name = own[i].c_str();
    const py::object value = hyperparameters.contains(name) ? py::object(hyperparameters[name]) : py::none();
    if (value.is_none()) continue;
    o.given |= 1u << i;
    o.hyperparameters[i] = real(name, value);
  }

  if (grads.is_none()) throw py::type_error("`grads` must be a list of arrays. Received: type=NoneType");
  const ArrayList param_list("params", params, ArrayView::as_it_is);
  const ArrayList grad_list("grads", grads, param_list, true);
  const ArrayList ema_list("ema", ema, param_list, false);
  const ArrayList copy_list("low_precision_copies", low_precision_copies, param_list, false);
  std::vector<ArrayList> state_lists;
  fnn_optimizer_tensors t{};
  t.size = sizeof t;
  t.count = param_list.size();
  t.params = param_list.data();
  t.grads = grad_list.data();
  t.ema = ema_list.data();
  t.low_precision_copies = copy_list.data();
  state_lists.reserve(FNN_MAX_STATES);
  for (size_t i = 0; i < own_states.size(); ++i) {
    const char* name = own_states[i].c_str();
    if (!states.contains(name)) continue;
    state_lists.emplace_back(name, states[name], param_list, false);
    t.states[i] = state_lists.back().data();
  }
  const std::vector<int64_t> steps = steps_of(step);
  t.steps = steps.data();
  t.step_count = static_cast<int64_t>(steps.size());

  int32_t stepped = 0;
  run([&] { return fnn_optimizer_step(kind, &o, &t, &stepped); });
  return stepped != 0;
}

double global_norm(py::handle arrays) {
  const ArrayList list("arrays", arrays, ArrayView::dense);
  double norm = 0.0;
  run([&] { return fnn_global_norm(list.size(), list.data(), &norm); });
  return norm;
}

}  // namespace

void register_optimizer(py::module_& m) {
  using py::arg;
  m.def("optimizer_step", &optimizer_step, arg("kind"), arg("params"), arg("grads"), arg("states"), arg("step"),
        arg("convention"), arg("hyperparameters"), arg("weight_decay"), arg("decoupled_weight_decay"), arg("maximize"),
        arg("grad_scale"), arg("clip_value"), arg("max_norm_each"), arg("max_norm"), arg("skip_nonfinite"), arg("ema"),
        arg("ema_momentum"), arg("low_precision_copies"));
  m.def("global_norm", &global_norm, arg("arrays"));
  m.def("optimizer_names", [] { return names(&fnn_optimizer_name); });
  m.def(
      "optimizer_hyperparameters",
      [](const std::string& kind) {
        const int32_t k = kind_of(kind);
        return names([k](int32_t i) { return fnn_optimizer_hyperparameter(k, i); });
      },
      arg("kind"));
  m.def(
      "optimizer_states",
      [](const std::string& kind) {
        const int32_t k = kind_of(kind);
        return names([k](int32_t i) { return fnn_optimizer_state(k, i); });
      },
      arg("kind"));
  m.def("convention_names", [] { return names(&fnn_convention_name); });
}

}  // namespace fusednn
