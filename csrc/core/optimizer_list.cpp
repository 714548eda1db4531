#include "core/optimizer_list.h"

#include <string>

#include "core/checks.h"
#include "core/status.h"

namespace fusednn {
namespace {

const char* kind_name(bool is_signed) { return is_signed ? "a signed quantized state" : "an unsigned quantized state"; }

// Of a tensor that require_float accepts.
DType storage_of(const fnn_tensor& t) {
  switch (t.dtype) {
    case FNN_FLOAT64:  return DType::kFloat64;
    case FNN_FLOAT16:  return DType::kFloat16;
    case FNN_BFLOAT16: return DType::kBFloat16;
    default:           return DType::kFloat32;
  }
}

// One list of streams of the call, checked tensor by tensor against the params.
struct StreamCheck {
  const char* name;
  bool written;
  ListMemory* memory;  // null: what overlaps is looked for otherwise

  Stream operator()(const fnn_tensor* list, int64_t i, const Argument& param, bool dtype_fits,
                    const char* allowed) const {
    const Argument a{{name, i}, &list[i]};
    require_tensor(a);
    require_float(a);
    if (!dtype_fits) {
      require_shape_of(a, param);
      fail_type("`" + a.name + "` must be " + allowed + " where `" + param.name + "` is " +
                dtype_name(param.tensor->dtype) + ". Received: dtype=" + dtype_name(a.tensor->dtype));
    }
    place(a, param);
    if (memory != nullptr) memory->add(a.name, bytes_of(*a.tensor), written);
    return {a.tensor->data, storage_of(*a.tensor)};
  }

  // Codes, whose kind was checked before, with their scales.
  Stream codes(const fnn_tensor* list, const fnn_tensor* scales, int64_t i, const Argument& param) const {
    const Argument a{{name, i}, &list[i]};
    require_tensor(a);
    place(a, param);
    const int64_t count = element_count(*a.tensor);
    memory->add(a.name, bytes_of(*a.tensor), written);
    const Argument s{{name, i, ".scales"}, scales == nullptr ? nullptr : &scales[i]};
    require_vector(s, FNN_FLOAT32, (count + kCodeBlock - 1) / kCodeBlock, a.tensor);
    require_writable(s);
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): require_vector refuses a null tensor.
    memory->add(s.name, bytes_of(*s.tensor), written);
    return {a.tensor->data, DType::kFloat32};
  }

 private:
  void place(const Argument& a, const Argument& param) const {
    require_device(a, param.tensor);
    require_shape_of(a, param);
    require_dense(a);
    require_layout_of(a, param);
    if (written) require_writable(a);
  }
};

// Whether this state may be kept in codes of this kind.
void require_codes_fit(const State& state, const Argument& a, const Argument& param) {
  const bool is_signed = a.tensor->dtype == FNN_SIGNED_CODES;
  if (param.tensor->dtype == FNN_FLOAT64) {
    fail_type("`" + a.name + "` must be float64 where `" + param.name +
              "` is float64. Received: " + kind_name(is_signed));
  }
  if (state.codes == Codes::kNone) {
    fail_type("`" + a.name + "` must be float32, bfloat16 or float16: 8-bit codes are too coarse for it. Received: " +
              kind_name(is_signed));
  }
  if ((state.codes == Codes::kSigned) != is_signed) {
    fail_type("`" + a.name + "` must be a quantized state with signed=" + (is_signed ? "False" : "True") +
              ". Received: " + kind_name(is_signed));
  }
}

Stream checked_grad(const fnn_tensor* grads, int64_t i, const Argument& param, ListMemory* memory) {
  const bool in_double = param.tensor->dtype == FNN_FLOAT64;
  const bool fits = (grads[i].dtype == FNN_FLOAT64) == in_double;
  return StreamCheck{"grads", false, memory}(grads, i, param, fits,
                                             in_double ? "float64" : "float32, float16 or bfloat16");
}

OptimizerTensor checked_tensor(const StateTable& table, const fnn_optimizer_tensors& list, int64_t i,
                               ListMemory& memory) {
  OptimizerTensor t{};
  const Argument param{{"params", i}, &list.params[i]};
  require_array(param, nullptr);
  if (i > 0) require_device(param, &list.params[0]);
  require_writable(param);
  memory.add(param.name, bytes_of(*param.tensor), true);
  t.count = element_count(*param.tensor);
  t.param = {param.tensor->data, storage_of(*param.tensor)};

  const bool in_double = param.tensor->dtype == FNN_FLOAT64;
  const auto is = [](const fnn_tensor* l, int64_t k, int32_t dtype) { return l[k].dtype == dtype; };
  t.grad = checked_grad(list.grads, i, param, &memory);
  for (int s = 0; s < table.count; ++s) {
    const fnn_tensor* states = list.states[s];
    if (states == nullptr) continue;
    const StreamCheck check{table.states[s].name, true, &memory};
    if (is_codes(states[i].dtype)) {
      require_codes_fit(table.states[s], {{check.name, i}, &states[i]}, param);
      t.states[s] = check.codes(states, list.state_scales[s], i, param);
      t.state_scales[s] = list.state_scales[s][i].data;
    } else {
      const bool fits = is(states, i, FNN_FLOAT64) == in_double;
      t.states[s] = check(states, i, param, fits, in_double ? "float64" : "float32, bfloat16 or float16");
    }
  }
  if (list.ema != nullptr) {
    const bool fits = in_double ? is(list.ema, i, FNN_FLOAT64) : !is(list.ema, i, FNN_FLOAT64);
    t.ema = StreamCheck{"ema", true, &memory}(list.ema, i, param, fits,
                                              in_double ? "float64" : "float32, float16 or bfloat16");
  }
  if (list.low_precision_copies != nullptr) {
    const bool fits =
        !in_double && (is(list.low_precision_copies, i, FNN_FLOAT16) || is(list.low_precision_copies, i, FNN_BFLOAT16));
    t.low_precision_copy = StreamCheck{"low_precision_copies", true, &memory}(
        list.low_precision_copies, i, param, fits, in_double ? "absent" : "float16 or bfloat16");
  }
  return t;
}

// The index of the first for which f(index) holds, or -1.
template <class F>
int64_t first_of(int64_t count, const F& f) {
  for (int64_t i = 0; i < count; ++i) {
    if (f(i)) return i;
  }
  return -1;
}

}  // namespace

OptimizerList::OptimizerList(const StateTable& table, const fnn_optimizer_tensors& list) : table_(table) {
  if (list.count < 1) fail_value("`params` must hold at least one array. Received: an empty list");
  require_list_count("count", list.count);
  require_pointer("params", list.params);
  require_pointer("grads", list.grads);
  memory_.reserve(list.count * (table.count + 2));
  tensors_.reserve(static_cast<size_t>(list.count));
  for (int64_t i = 0; i < list.count; ++i) {
    const OptimizerTensor t = checked_tensor(table, list, i, memory_);
    tensors_.push_back(t);
    total_ += t.count;
    if ((tensors_[0].param.dtype == DType::kFloat64) != (t.param.dtype == DType::kFloat64)) {
      fail_type("`params` must be all float64 or none. Received: dtype=" +
                std::string(dtype_name(list.params[0].dtype)) + " and dtype=" + dtype_name(list.params[i].dtype));
    }
  }
  memory_.check();
  has_averages_ = list.ema != nullptr;
  keep_params(list.params, list.count);
  if (fusednn::on_cuda(list.params[0])) device_id_ = list.params[0].device_id;
  first_not_bfloat16_ = first_of(list.count, [&](int64_t i) { return list.params[i].dtype != FNN_BFLOAT16; });
  for (int s = 0; s < table.count; ++s) {
    given_[s] = list.states[s] != nullptr;
    first_codes_[s] =
        first_of(given_[s] ? list.count : 0, [&](int64_t i) { return is_codes(list.states[s][i].dtype); });
  }
}

void OptimizerList::keep_params(const fnn_tensor* params, int64_t count) {
  params_.assign(params, params + count);
  size_t numbers = 0;
  for (const fnn_tensor& p : params_) numbers += 2 * static_cast<size_t>(p.ndim);
  shapes_.reserve(numbers);  // none moves
  for (fnn_tensor& p : params_) {
    const auto kept = [this, &p](const int64_t* from) {
      const size_t at = shapes_.size();
      shapes_.insert(shapes_.end(), from, from + p.ndim);
      return shapes_.data() + at;
    };
    p.shape = kept(p.shape);
    if (p.strides != nullptr) p.strides = kept(p.strides);
  }
}

void OptimizerList::set_grads(const fnn_tensor* grads) {
  require_pointer("grads", grads);
  grads_.clear();
  grads_.reserve(params_.size());
  size_t near = 0;
  for (size_t i = 0; i < params_.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    grads_.push_back(checked_grad(grads, index, {{"params", index}, &params_[i]}, nullptr));
    memory_.require_apart({"grads", index}, bytes_of(grads[i]), near);
  }
  for (size_t i = 0; i < params_.size(); ++i) tensors_[i].grad = grads_[i];
}

bool OptimizerList::needs(const OptimizerStep& step, int state) const {
  const int by = table_.states[state].needed_by;
  return by == kAlways || step.hyperparameters[by] != 0.0;
}

void OptimizerList::require_states(const OptimizerStep& step) const {
  for (int s = 0; s < table_.count; ++s) {
    const State& state = table_.states[s];
    if (needs(step, s) && !given_[s]) {
      std::string message = "`" + std::string(state.name) + "` must be given";
      const int by = state.needed_by;
      if (by != kAlways) message.append(" where `").append(table_.hyperparameters[by].name).append("` is used");
      fail_value(message + ". Received: None");
    }
    if (given_[s] && !needs(step, s) && table_.hyperparameters[state.needed_by].domain == Domain::kFlag) {
      const char* flag = table_.hyperparameters[state.needed_by].name;
      std::string message = "`" + std::string(state.name);
      message.append("` must be None where `").append(flag).append("` is off. Received: a list, and ").append(flag);
      fail_value(message + "=False");
    }
    const bool exact = state.exact_for != kNever && step.hyperparameters[state.exact_for] != 0.0;
    if (exact && given_[s] && first_codes_[s] >= 0) {
      fail_type("`" + Name(state.name, first_codes_[s]) + "` must be float32, bfloat16 or float16 where `" +
                table_.hyperparameters[state.exact_for].name +
                "` is used: 8-bit codes are too coarse for it. Received: " + kind_name(state.codes == Codes::kSigned));
    }
  }
}

void OptimizerList::prepare(OptimizerStep& step, const int64_t* steps, int64_t step_count) {
  const auto count = static_cast<int64_t>(tensors_.size());
  if (step_count != 1 && step_count != count) {
    fail_value("`step` must be one number or one per array. Received: " + std::to_string(step_count) + " numbers for " +
               std::to_string(count) + " arrays");
  }
  const int64_t first = first_step(step.convention);
  for (int64_t i = 0; i < step_count; ++i) {
    if (steps[i] < first) {
      fail_value("`step` must be at least " + std::to_string(first) + ". Received: step=" + std::to_string(steps[i]));
    }
  }
  if (step.stochastic_rounding && first_not_bfloat16_ >= 0) {
    const auto dtype = static_cast<int32_t>(tensors_[static_cast<size_t>(first_not_bfloat16_)].param.dtype);
    fail_type("`" + Name("params", first_not_bfloat16_) +
              "` must be bfloat16 where `stochastic_rounding_seed` is given. Received: dtype=" + dtype_name(dtype));
  }
  require_states(step);
  if (!has_averages_ && step.ema_momentum != 0.0) {
    fail_value("`ema_momentum` must not be given where `ema` is None. Received: ema_momentum=" +
               number(step.ema_momentum));
  }

  for (int64_t i = 0; i < count; ++i) tensors_[static_cast<size_t>(i)].step = steps[step_count == 1 ? 0 : i];
  bool all_needed = true;
  for (int s = 0; s < table_.count; ++s) all_needed = all_needed && (needs(step, s) || !given_[s]);
  if (!all_needed) {
    reduced_ = tensors_;
    for (OptimizerTensor& t : reduced_) {
      for (int s = 0; s < table_.count; ++s) {
        if (!needs(step, s)) t.states[s].data = t.state_scales[s] = nullptr;
      }
    }
  }
  norms_.resize(tensors_.size());
  step.in_double = tensors_[0].param.dtype == DType::kFloat64;
  step.tensor_count = count;
  step.total = total_;
  step.tensors = all_needed ? tensors_.data() : reduced_.data();
  step.norms = norms_.data();
}

}  // namespace fusednn
