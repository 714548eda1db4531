#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <cmath>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"

namespace fusednn {
namespace {

// The names at index 0, 1, ... of one of the C API's lists.
template <class NameAt>
std::vector<std::string> names(const NameAt& name_at) {
  std::vector<std::string> result;
  for (int32_t i = 0; name_at(i) != nullptr; ++i) result.emplace_back(name_at(i));
  return result;
}

int32_t kind_of(const std::string& name) {
  const int32_t kind = fnn_optimizer_kind(name.c_str());
  if (kind < 0) throw py::value_error("`kind` must be an optimizer's name. Received: kind=" + name);
  return kind;
}

int32_t convention_of(const std::string& name) {
  std::string known;
  for (int32_t i = 0; fnn_convention_name(i) != nullptr; ++i) {
    if (name == fnn_convention_name(i)) return i;
    known += (i > 0 ? ", " : "") + std::string(fnn_convention_name(i));
  }
  throw py::value_error("`convention` must be one of " + known + ". Received: convention=" + name);
}

// Hyper-parameters and states arrive by name, so that this function serves every optimizer.
bool optimizer_step(const std::string& kind_name, py::handle params, py::handle grads,
                    const py::typing::Dict<py::str, py::object>& states,
                    const std::variant<int64_t, std::vector<int64_t>>& step, const std::string& convention,
                    const py::typing::Dict<py::str, py::object>& hyperparameters, double weight_decay,
                    std::optional<bool> decoupled_weight_decay, bool maximize, std::optional<double> grad_scale,
                    std::optional<double> clip_value, std::optional<double> max_norm_each,
                    std::optional<double> max_norm, bool skip_nonfinite, py::handle ema, double ema_momentum,
                    py::handle low_precision_copies) {
  const int32_t kind = kind_of(kind_name);
  fnn_optimizer_options o{};
  o.size = sizeof o;
  o.convention = convention_of(convention);
  o.weight_decay = weight_decay;
  o.decoupled_weight_decay = decoupled_weight_decay.has_value() ? *decoupled_weight_decay : -1;
  o.maximize = maximize;
  o.grad_scale = grad_scale.value_or(1.0);
  o.clip_value = clip_value.value_or(HUGE_VAL);
  o.max_norm_each = max_norm_each.value_or(HUGE_VAL);
  o.max_norm = max_norm.value_or(HUGE_VAL);
  o.skip_nonfinite = skip_nonfinite;
  o.ema_momentum = ema_momentum;
  size_t known = 0;
  for (int32_t i = 0; const char* name = fnn_optimizer_hyperparameter(kind, i); ++i) {
    if (!hyperparameters.contains(name)) continue;
    ++known;
    const py::object value = hyperparameters[name];
    if (value.is_none()) continue;
    o.given |= 1u << i;
    o.hyperparameters[i] = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      throw py::type_error(std::string("`") + name + "` must be a number. Received: " + name + "=" +
                           py::repr(value).cast<std::string>());
    }
  }
  if (known != hyperparameters.size()) {
    throw py::type_error("`hyperparameters` of " + kind_name +
                         " must be among its own. Received: " + py::str(py::list(hyperparameters)).cast<std::string>());
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
  for (int32_t i = 0; const char* name = fnn_optimizer_state(kind, i); ++i) {
    if (!states.contains(name)) continue;
    state_lists.emplace_back(name, states[name], param_list, false);
    t.states[i] = state_lists.back().data();
  }
  const auto* many = std::get_if<std::vector<int64_t>>(&step);
  t.steps = many != nullptr ? many->data() : &std::get<int64_t>(step);
  t.step_count = many != nullptr ? static_cast<int64_t>(many->size()) : 1;

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
