// The C API's optimizer functions: one entry for every optimizer in math/optimizer.h.
#include <cmath>
#include <cstring>
#include <vector>

#include "core/checks.h"
#include "core/device.h"
#include "core/optimizer_list.h"
#include "core/status.h"
#include "math/optimizer.h"

using namespace fusednn;

namespace {

// An optimizer's tables, without its type.
struct Description {
  const char* name;
  const Hyperparameter* hyperparameters;
  int hyperparameter_count;
  const State* states;
  int state_count;
  unsigned conventions, decoupled_decay;
  const char* (*conflict)(const double*, Convention);
};

template <class Optimizer>
constexpr Description describe() {
  static_assert(std::size(Optimizer::hyperparameters) <= FNN_MAX_HYPERPARAMETERS);
  static_assert(std::size(Optimizer::states) <= FNN_MAX_STATES);
  return {Optimizer::name,
          Optimizer::hyperparameters,
          static_cast<int>(std::size(Optimizer::hyperparameters)),
          Optimizer::states,
          static_cast<int>(std::size(Optimizer::states)),
          Optimizer::conventions,
          Optimizer::decoupled_decay,
          Optimizer::conflict};
}

#define FNN_DESCRIBE(Optimizer) describe<Optimizer>(),
constexpr Description descriptions[] = {FNN_OPTIMIZERS(FNN_DESCRIBE)};
#undef FNN_DESCRIBE

constexpr const char* convention_names[] = {"torch", "keras", "tf1", "optax", "onnx", "mlx"};
static_assert(std::size(convention_names) == kConventionCount);
static_assert(FNN_MAX_STATES == kMaxStates && FNN_MAX_HYPERPARAMETERS == kMaxHyperparameters);

const Description* description(int32_t kind) {
  return kind >= 0 && kind < static_cast<int32_t>(std::size(descriptions)) ? &descriptions[kind] : nullptr;
}

void check_domain(const Hyperparameter& h, double value) {
  const auto fail = [&](const char* expectation) {
    fail_value(std::string("`") + h.name + "` must be " + expectation + ". Received: " + h.name + "=" + number(value));
  };
  switch (h.domain) {
    case Domain::kNonNegative:  require_non_negative(h.name, value); break;
    case Domain::kUnitInterval: require_unit_interval(h.name, value); break;
    case Domain::kBelowOne:
      if (!(value >= 0.0 && value < 1.0)) fail("in [0, 1)");
      break;
    case Domain::kFinite: require_finite(h.name, value); break;
    case Domain::kFlag:
      if (value != 0.0 && value != 1.0) fail("0 or 1");
      break;
  }
}

void fill_hyperparameters(const Description& d, const fnn_optimizer_options& o, double* values) {
  const char* convention = convention_names[o.convention];
  if (o.given >> d.hyperparameter_count != 0) {
    fail_value(std::string("`given` must have bits for the ") + std::to_string(d.hyperparameter_count) +
               " hyper-parameters of " + d.name + " alone. Received: given=" + std::to_string(o.given));
  }
  for (int i = 0; i < d.hyperparameter_count; ++i) {
    const Hyperparameter& h = d.hyperparameters[i];
    const double own = h.default_value[o.convention];
    const bool given = (o.given >> i & 1u) != 0;
    if (own == kRequired && !given) fail_value(std::string("`") + h.name + "` must be given. Received: None");
    const bool fixed = own == kAbsent || own == kAlwaysOn;
    const double fixed_value = own == kAlwaysOn ? 1.0 : 0.0;
    values[i] = given ? o.hyperparameters[i] : fixed ? fixed_value : own;
    check_domain(h, values[i]);
    if (fixed && values[i] != fixed_value) {
      fail_value(std::string("`") + h.name + "` must be " + number(fixed_value) + ": the " + convention +
                 " convention of " + d.name + (own == kAlwaysOn ? " always has it" : " does not have it") +
                 ". Received: " + h.name + "=" + number(values[i]));
    }
  }
  if (const char* conflict = d.conflict(values, Convention(o.convention))) {
    std::string received = ". Received: ";
    for (int i = 1; i < d.hyperparameter_count; ++i) {
      if (i > 1) received += ", ";
      received.append(d.hyperparameters[i].name).append("=").append(number(values[i]));
    }
    fail_value(conflict + received);
  }
}

void require_convention(const Description& d, int32_t convention) {
  if (fnn_convention_name(convention) == nullptr) {
    fail_value("`convention` must be a convention's number. Received: convention=" + std::to_string(convention));
  }
  if (among(d.conventions, convention)) return;
  std::string known;
  for (int32_t c = 0; c < kConventionCount; ++c) {
    if (!among(d.conventions, c)) continue;
    if (!known.empty()) known += ", ";
    known += convention_names[c];
  }
  const std::string name = convention_names[convention];
  fail_value("`convention` must be one of " + known + " for " + d.name + ": " + name +
             " has no such optimizer. Received: convention=" + name);
}

// Options that are finite when used and infinite when off.
void check_clipping(const fnn_optimizer_options& o) {
  const std::pair<const char*, double> clips[] = {
      {"clip_value", o.clip_value}, {"max_norm_each", o.max_norm_each}, {"max_norm", o.max_norm}};
  const char* used = nullptr;
  for (const auto& [name, value] : clips) {
    if (!(value > 0.0)) {
      fail_value(std::string("`") + name + "` must be positive. Received: " + name + "=" + number(value));
    }
    if (std::isinf(value)) continue;
    if (used != nullptr) {
      fail_value("only one of `clip_value`, `max_norm_each` and `max_norm` may be given. Received: both `" +
                 std::string(used) + "` and `" + name + "`");
    }
    used = name;
  }
}

const Description& known_kind(int32_t kind) {
  const Description* d = description(kind);
  if (d == nullptr) fail_value("`kind` must be an optimizer's number. Received: kind=" + std::to_string(kind));
  return *d;
}

// The numbers of a step.
OptimizerStep checked_options(int32_t kind, const fnn_optimizer_options* options) {
  const Description& d = known_kind(kind);
  require_struct("options", options);
  const fnn_optimizer_options& o = *options;
  require_convention(d, o.convention);

  OptimizerStep step{};
  step.kind = kind;
  step.convention = o.convention;
  fill_hyperparameters(d, o, step.hyperparameters);
  require_non_negative("weight_decay", o.weight_decay);
  require_unit_interval("ema_momentum", o.ema_momentum);
  require_finite("grad_scale", o.grad_scale);
  if (!(o.grad_scale > 0.0)) {
    fail_value("`grad_scale` must be positive. Received: grad_scale=" + number(o.grad_scale));
  }
  check_clipping(o);
  if (o.stochastic_rounding == 0 && o.stochastic_rounding_seed != 0) {
    fail_value(
        "`stochastic_rounding_seed` must be 0 without `stochastic_rounding`. Received: stochastic_rounding_seed=" +
        std::to_string(o.stochastic_rounding_seed));
  }
  step.weight_decay = o.weight_decay;
  step.decoupled_weight_decay =
      o.decoupled_weight_decay < 0 ? among(d.decoupled_decay, o.convention) : o.decoupled_weight_decay != 0;
  step.maximize = o.maximize != 0;
  step.grad_scale = o.grad_scale;
  step.clip_value = o.clip_value;
  step.max_norm_each = o.max_norm_each;
  step.max_norm = o.max_norm;
  step.skip_nonfinite = o.skip_nonfinite != 0;
  step.ema_momentum = o.ema_momentum;
  step.stochastic_rounding = o.stochastic_rounding != 0;
  step.stochastic_rounding_seed = o.stochastic_rounding_seed;
  return step;
}

}  // namespace

// Lists that are checked; what remains at each step are the numbers.
struct fnn_optimizer_plan {
  fnn_optimizer_plan(int32_t optimizer, const fnn_optimizer_tensors* tensors)
      // Braces: `tensors` is checked before it is followed.
      : kind(optimizer), list{state_table(known_kind(optimizer), tensors), *tensors} {}

  ~fnn_optimizer_plan() {
    if (on_device != nullptr) cuda_backend().optimizer_list_destroy(on_device);
  }
  fnn_optimizer_plan(const fnn_optimizer_plan&) = delete;
  fnn_optimizer_plan& operator=(const fnn_optimizer_plan&) = delete;

  void set_grads(const fnn_tensor* grads) { list.set_grads(grads); }

  // Everything that a step may be refused for.
  void check(OptimizerStep& step, const fnn_device_scalars* given, const int64_t* steps, int64_t step_count) {
    require_pointer("steps", steps);
    list.prepare(step, steps, step_count);
    if (given != nullptr && !list.on_cuda()) {
      fail_value("`device_scalars` must be absent where the arrays are in the CPU's memory. Received: a pointer");
    }
  }

  // Returns what *stepped is to hold.
  int32_t step(OptimizerStep step, const fnn_device_scalars* given, const int64_t* steps, int64_t step_count) {
    check(step, given, steps, step_count);
    if (list.on_cuda()) {
      const fnn_device_scalars none{};
      const fnn_device_scalars& scalars = given == nullptr ? none : *given;
      require_done(cuda_backend().optimizer_step(step, scalars, cuda_place(list.device_id()), &on_device));
      return step.skip_nonfinite || scalars.found_inf != nullptr ? -1 : 1;
    }
    bool stepped = true;
    require_workspace(cpu_backend().optimizer_step(step, &stepped));
    return stepped ? 1 : 0;
  }

  const int32_t kind;

 private:
  static StateTable state_table(const Description& d, const fnn_optimizer_tensors* tensors) {
    require_struct("tensors", tensors);
    for (int s = d.state_count; s < FNN_MAX_STATES; ++s) {
      if (tensors->states[s] == nullptr) continue;
      const std::string number = std::to_string(d.state_count);
      fail_value("`states[" + std::to_string(s) + "]` must be NULL: " + d.name + " has " + number +
                 (d.state_count == 1 ? " state" : " states") + ". Received: a list");
    }
    return {d.states, d.state_count, d.hyperparameters};
  }

  OptimizerList list;
  CudaOptimizerList* on_device = nullptr;
};

int32_t fnn_optimizer_kind(const char* name) {
  for (size_t i = 0; name != nullptr && i < std::size(descriptions); ++i) {
    if (std::strcmp(descriptions[i].name, name) == 0) return static_cast<int32_t>(i);
  }
  return -1;
}

const char* fnn_optimizer_name(int32_t kind) {
  const Description* d = description(kind);
  return d == nullptr ? nullptr : d->name;
}

const char* fnn_optimizer_hyperparameter(int32_t kind, int32_t index) {
  const Description* d = description(kind);
  return d == nullptr || index < 0 || index >= d->hyperparameter_count ? nullptr : d->hyperparameters[index].name;
}

const char* fnn_optimizer_state(int32_t kind, int32_t index) {
  const Description* d = description(kind);
  return d == nullptr || index < 0 || index >= d->state_count ? nullptr : d->states[index].name;
}

const char* fnn_convention_name(int32_t convention) {
  return convention >= 0 && convention < kConventionCount ? convention_names[convention] : nullptr;
}

fnn_status fnn_optimizer_step(int32_t kind, const fnn_optimizer_options* options, const fnn_optimizer_tensors* tensors,
                              int32_t* stepped) {
  return guarded([&] {
    const OptimizerStep step = checked_options(kind, options);
    fnn_optimizer_plan plan(kind, tensors);
    const int32_t done = plan.step(step, options->device_scalars, tensors->steps, tensors->step_count);
    if (stepped != nullptr) *stepped = done;
  });
}

fnn_status fnn_optimizer_plan_create(int32_t kind, const fnn_optimizer_tensors* tensors, fnn_optimizer_plan** plan) {
  return guarded([&] {
    require_pointer("plan", plan);
    *plan = new fnn_optimizer_plan(kind, tensors);
  });
}

fnn_status fnn_optimizer_plan_set_grads(fnn_optimizer_plan* plan, const fnn_tensor* grads) {
  return guarded([&] {
    require_pointer("plan", plan);
    plan->set_grads(grads);
  });
}

fnn_status fnn_optimizer_plan_step(fnn_optimizer_plan* plan, const fnn_optimizer_options* options, const int64_t* steps,
                                   int64_t step_count, int32_t* stepped) {
  return guarded([&] {
    require_pointer("plan", plan);
    const OptimizerStep step = checked_options(plan->kind, options);  // before anything is read of the options
    const int32_t done = plan->step(step, options->device_scalars, steps, step_count);
    if (stepped != nullptr) *stepped = done;
  });
}

fnn_status fnn_optimizer_plan_check(fnn_optimizer_plan* plan, const fnn_optimizer_options* options,
                                    const int64_t* steps, int64_t step_count) {
  return guarded([&] {
    require_pointer("plan", plan);
    OptimizerStep step = checked_options(plan->kind, options);
    plan->check(step, options->device_scalars, steps, step_count);
  });
}

void fnn_optimizer_plan_destroy(fnn_optimizer_plan* plan) { delete plan; }

fnn_status fnn_global_norm(int64_t count, const fnn_tensor* arrays, double* norm) {
  return guarded([&] {
    require_list_count("count", count);
    if (count > 0) require_pointer("arrays", arrays);
    require_pointer("norm", norm);
    std::vector<SquaredNorms::Array> list;
    for (int64_t i = 0; i < count; ++i) {
      require_array({{"arrays", i}, &arrays[i]}, nullptr);
      if (i > 0) require_device({{"arrays", i}, &arrays[i]}, &arrays[0]);
      list.push_back({{arrays[i].data, DType{arrays[i].dtype}}, element_count(arrays[i])});
    }
    std::vector<double> sums(list.size());
    if (count > 0) {
      run_on_device_of(arrays[0], &Backend::squared_norms, &CudaBackend::squared_norms,
                       {count, list.data(), sums.data()});
    }
    double total = 0.0;
    for (const double sum : sums) total += sum;
    *norm = std::sqrt(total);
  });
}
