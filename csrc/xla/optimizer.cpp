// One step of any optimizer over a list of arrays in XLA's programs.
//
// Operands and results in their order; those in brackets may be absent. All but lr, grad_scale and grads are operands and
// results at once; states come state by state, each with one array per parameter:
//
//   lr, step, [grad_scale], grads, params, states -> stepped, step, params, states
//
// lr and grad_scale are numbers that may change without compiling the program anew. `step` (float32) is the number of
// updates made so far, and not read after; `stepped` (int32) is 0 where skip_nonfinite left everything as it was. Under
// vmap each member of the batch is stepped by its own numbers.
#include <algorithm>
#include <vector>

#include "xla/handler.h"
#include "xla/optimizer_plans.h"

namespace fusednn::handlers {

namespace {

struct OptimizerAttributes {
  int64_t kind;
  int64_t convention;
  int64_t count;   // of parameters
  int64_t states;  // bit i: state i of the kind is there
  int64_t given;   // bit i: hyperparameters[i] was given
  double weight_decay;
  int64_t decoupled_weight_decay;
  int64_t maximize;
  int64_t has_grad_scale;
  double clip_value;
  double max_norm_each;
  double max_norm;
  int64_t skip_nonfinite;

  // The first hyper-parameter, lr, is an operand: its place is not read.
  fnn_optimizer_options options(ffi::Span<const double> hyperparameters) const {
    fnn_optimizer_options o{};
    o.size = sizeof o;
    o.convention = static_cast<int32_t>(convention);
    o.given = static_cast<uint32_t>(given);
    std::copy(hyperparameters.begin(), hyperparameters.end(), o.hyperparameters);
    o.weight_decay = weight_decay;
    o.decoupled_weight_decay = static_cast<int32_t>(decoupled_weight_decay);
    o.maximize = static_cast<int32_t>(maximize);
    o.grad_scale = 1.0;
    o.clip_value = clip_value;
    o.max_norm_each = max_norm_each;
    o.max_norm = max_norm;
    o.skip_nonfinite = static_cast<int32_t>(skip_nonfinite);
    return o;
  }
};

// The operands and results of one call by their places in the lists.
class Lists {
 public:
  Lists(const OptimizerAttributes& given, ffi::RemainingArgs operands, ffi::RemainingRets results)
      : given_(given), operands_(operands), results_(results) {}

  const OptimizerAttributes& given() const { return given_; }
  ffi::AnyBuffer operand(size_t i) const { return *operands_.get<ffi::AnyBuffer>(i); }
  ffi::AnyBuffer result(size_t i) const { return **results_.get<ffi::AnyBuffer>(i); }

  // Calls see(buffer, flags) with all gradients, then all parameters, then all states.
  template <class See>
  void for_each(const See& see) const {
    const size_t first_grad = given_.has_grad_scale != 0 ? 3 : 2;
    const auto count = static_cast<size_t>(given_.count);
    for (size_t i = 0; i < count; ++i) see(operand(first_grad + i), FNN_READ_ONLY);
    for (size_t i = 2; i < results_.size(); ++i) see(result(i), 0);
  }

 private:
  const OptimizerAttributes& given_;
  ffi::RemainingArgs operands_;
  ffi::RemainingRets results_;
};

// What the kernels are told about the lists, one member of the batch at a time.
class Tensors {
 public:
  Tensors(const Lists& lists, Device device, size_t leading, size_t batch) {
    const OptimizerAttributes& given = lists.given();
    const auto count = static_cast<size_t>(given.count);
    lists.for_each([&](const ffi::AnyBuffer& buffer, uint32_t flags) {
      tensors_.push_back(tensor_of(buffer, leading, device, flags));
      bytes_.push_back(buffer.size_bytes() / batch);
    });
    fields_.size = sizeof fields_;
    fields_.count = given.count;
    fields_.step_count = 1;
    fields_.grads = tensors_.data();
    fields_.params = tensors_.data() + count;
    size_t next = 2 * count;
    for (size_t i = 0; i < FNN_MAX_STATES; ++i) {
      if ((given.states >> i & 1) == 0) continue;
      fields_.states[i] = tensors_.data() + next;
      next += count;
    }
  }
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  const fnn_optimizer_tensors& at_step(const int64_t* step) {
    fields_.steps = step;
    return fields_;
  }

  void next_member() {
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].data = static_cast<char*>(tensors_[i].data) + bytes_[i];
  }

 private:
  std::vector<fnn_tensor> tensors_;
  std::vector<size_t> bytes_;
  fnn_optimizer_tensors fields_{};
};

double number_at(const ffi::AnyBuffer& buffer, size_t member) {
  if (buffer.element_type() == ffi::DataType::F64) return static_cast<const double*>(buffer.untyped_data())[member];
  return static_cast<const float*>(buffer.untyped_data())[member];
}

float* pointer_at(const ffi::AnyBuffer& buffer, size_t member) {
  return static_cast<float*>(buffer.untyped_data()) + member;
}

// The step's numbers in the CPU's memory, of one member of the batch. Returns the number of this update.
int64_t read_numbers(const Lists& lists, size_t member, fnn_optimizer_options& options) {
  const OptimizerAttributes& given = lists.given();
  options.hyperparameters[0] = number_at(lists.operand(0), member);
  if (given.has_grad_scale != 0) options.grad_scale = number_at(lists.operand(2), member);
  const int64_t first = given.convention == FNN_ONNX ? 0 : 1;
  return first + static_cast<int64_t>(number_at(lists.result(1), member));
}

// In a loop checking the lists took three times as long as stepping 60 arrays of 32.
fnn_status planned_step(const Lists& lists, fnn_optimizer_options& options, size_t leading) {
  const OptimizerAttributes& given = lists.given();
  const int64_t step = read_numbers(lists, 0, options);
  OptimizerPlans& plans = OptimizerPlans::of_this_thread();
  plans.places().clear();
  lists.for_each([&](const ffi::AnyBuffer& buffer, uint32_t) {
    plans.places().push_back({buffer.untyped_data(), buffer.size_bytes(), dtype_of(buffer.element_type())});
  });
  fnn_optimizer_plan* plan = plans.find(given.kind, given.states);
  if (plan == nullptr) {
    Tensors tensors(lists, Device{FNN_CPU, 0}, leading, 1);
    const auto kind = static_cast<int32_t>(given.kind);
    if (const auto status = fnn_optimizer_plan_create(kind, &tensors.at_step(nullptr), &plan); status != FNN_SUCCESS) {
      return status;
    }
    plans.keep(given.kind, given.states, plan);
  }
  return fnn_optimizer_plan_step(plan, &options, &step, 1, static_cast<int32_t*>(lists.result(0).untyped_data()));
}

// Each member of the batch by itself, on the GPU by numbers in its memory.
fnn_status steps_of_members(const Lists& lists, fnn_optimizer_options& options, Device device, size_t leading,
                            size_t batch) {
  const OptimizerAttributes& given = lists.given();
  const ffi::AnyBuffer stepped = lists.result(0);
  Tensors tensors(lists, device, leading, batch);
  for (size_t member = 0; member < batch; ++member, tensors.next_member()) {
    int32_t* done = static_cast<int32_t*>(stepped.untyped_data()) + member;
    int64_t step = given.convention == FNN_ONNX ? 0 : 1;
    fnn_device_scalars scalars{};
    if (device.type == FNN_CUDA) {
      scalars = {pointer_at(lists.operand(0), member), nullptr, pointer_at(lists.result(1), member), nullptr, done};
      if (given.has_grad_scale != 0) scalars.grad_scale = pointer_at(lists.operand(2), member);
      options.device_scalars = &scalars;
    } else {
      step = read_numbers(lists, member, options);
    }
    int32_t on_host = 0;
    const auto kind = static_cast<int32_t>(given.kind);
    if (const auto status = fnn_optimizer_step(kind, &options, &tensors.at_step(&step), &on_host);
        status != FNN_SUCCESS) {
      return status;
    }
    if (device.type == FNN_CPU) *done = on_host;
  }
  return FNN_SUCCESS;
}

ffi::Error optimizer_step(Device device, const OptimizerAttributes& given, ffi::Span<const double> hyperparameters,
                          ffi::RemainingArgs operands, ffi::RemainingRets results) {
  const Lists lists(given, operands, results);
  const ffi::AnyBuffer step = lists.result(1);
  const size_t leading = step.dimensions().size(), batch = step.element_count();
  if (batch == 0) return ffi::Error::Success();
  if (device.type == FNN_CUDA && lists.operand(0).element_type() != ffi::DataType::F32) {
    return {ffi::ErrorCode::kInvalidArgument, "`learning_rate` must be float32 on a GPU. Received: float64"};
  }
  fnn_optimizer_options options = given.options(hyperparameters);
  const bool planned = device.type == FNN_CPU && batch == 1;
  const fnn_status status =
      planned ? planned_step(lists, options, leading) : steps_of_members(lists, options, device, leading, batch);
  return status == FNN_SUCCESS ? ffi::Error::Success() : failed(status);
}

}  // namespace

}  // namespace fusednn::handlers

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(fusednn::handlers::OptimizerAttributes, StructMember<int64_t>("kind"),
                                      StructMember<int64_t>("convention"), StructMember<int64_t>("count"),
                                      StructMember<int64_t>("states"), StructMember<int64_t>("given"),
                                      StructMember<double>("weight_decay"),
                                      StructMember<int64_t>("decoupled_weight_decay"),
                                      StructMember<int64_t>("maximize"), StructMember<int64_t>("has_grad_scale"),
                                      StructMember<double>("clip_value"), StructMember<double>("max_norm_each"),
                                      StructMember<double>("max_norm"), StructMember<int64_t>("skip_nonfinite"));

namespace fusednn::handlers {

FNN_XLA_HANDLERS(optimizer_step, optimizer_step,
                 .Attr<OptimizerAttributes>("options").Attr<ffi::Span<const double>>("hyperparameters"));

}  // namespace fusednn::handlers
