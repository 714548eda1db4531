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

// Tensors one after the other, for all members of the batch.
class TensorList {
 public:
  TensorList(Device device, size_t leading, size_t batch) : device_(device), leading_(leading), batch_(batch) {}

  void add(const ffi::AnyBuffer& buffer, uint32_t flags) {
    tensors_.push_back(tensor_of(buffer, leading_, device_, flags));
    bytes_.push_back(buffer.size_bytes() / batch_);
  }

  const fnn_tensor* at(size_t i) const { return &tensors_[i]; }

  void next_member() {
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].data = static_cast<char*>(tensors_[i].data) + bytes_[i];
  }

 private:
  Device device_;
  size_t leading_, batch_;
  std::vector<fnn_tensor> tensors_;
  std::vector<size_t> bytes_;
};

double number_at(const ffi::AnyBuffer& buffer, size_t member) {
  if (buffer.element_type() == ffi::DataType::F64) return static_cast<const double*>(buffer.untyped_data())[member];
  return static_cast<const float*>(buffer.untyped_data())[member];
}

float* pointer_at(const ffi::AnyBuffer& buffer, size_t member) {
  return static_cast<float*>(buffer.untyped_data()) + member;
}

ffi::Error optimizer_step(Device device, const OptimizerAttributes& given, ffi::Span<const double> hyperparameters,
                          ffi::RemainingArgs operands, ffi::RemainingRets results) {
  const ffi::AnyBuffer lr = *operands.get<ffi::AnyBuffer>(0);
  const ffi::AnyBuffer grad_scale = *operands.get<ffi::AnyBuffer>(given.has_grad_scale != 0 ? 2 : 0);
  const ffi::AnyBuffer stepped = **results.get<ffi::AnyBuffer>(0);
  const ffi::AnyBuffer step = **results.get<ffi::AnyBuffer>(1);
  const size_t first_grad = given.has_grad_scale != 0 ? 3 : 2;
  const auto count = static_cast<size_t>(given.count);
  const size_t batch = step.element_count();
  if (batch == 0) return ffi::Error::Success();
  if (device.type == FNN_CUDA && lr.element_type() != ffi::DataType::F32) {
    return {ffi::ErrorCode::kInvalidArgument, "`learning_rate` must be float32 on a GPU. Received: float64"};
  }

  TensorList tensors(device, step.dimensions().size(), batch);
  for (size_t i = 0; i < count; ++i) tensors.add(*operands.get<ffi::AnyBuffer>(first_grad + i), FNN_READ_ONLY);
  for (size_t i = 2; i < results.size(); ++i) tensors.add(**results.get<ffi::AnyBuffer>(i), 0);

  fnn_optimizer_options options = given.options(hyperparameters);
  fnn_optimizer_tensors lists{};
  lists.size = sizeof lists;
  lists.count = given.count;
  lists.step_count = 1;
  for (size_t member = 0; member < batch; ++member, tensors.next_member()) {
    lists.grads = tensors.at(0);
    lists.params = tensors.at(count);
    size_t next = 2 * count;
    for (size_t i = 0; i < FNN_MAX_STATES; ++i) {
      if ((given.states >> i & 1) == 0) continue;
      lists.states[i] = tensors.at(next);
      next += count;
    }
    int64_t this_step = given.convention == FNN_ONNX ? 0 : 1;
    int32_t* done = static_cast<int32_t*>(stepped.untyped_data()) + member;
    fnn_device_scalars scalars{};
    if (device.type == FNN_CUDA) {
      scalars = {pointer_at(lr, member), nullptr, pointer_at(step, member), nullptr, done};
      if (given.has_grad_scale != 0) scalars.grad_scale = pointer_at(grad_scale, member);
      options.device_scalars = &scalars;
    } else {
      options.hyperparameters[0] = number_at(lr, member);
      if (given.has_grad_scale != 0) options.grad_scale = number_at(grad_scale, member);
      this_step += static_cast<int64_t>(number_at(step, member));
    }
    lists.steps = &this_step;
    int32_t on_host = 0;
    const fnn_status status = fnn_optimizer_step(static_cast<int32_t>(given.kind), &options, &lists, &on_host);
    if (status != FNN_SUCCESS) return failed(status);
    if (device.type == FNN_CPU) *done = on_host;
  }
  return ffi::Error::Success();
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
