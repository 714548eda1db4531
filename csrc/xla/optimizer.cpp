// How one step of any optimizer is made in XLA's programs; optimizer.h says what its operands are.
#include "xla/optimizer.h"

#include <utility>
#include <vector>

#include "xla/optimizer_plans.h"

namespace fusednn::handlers {

namespace {

// The operands and results of one call by their places in the lists.
class Lists {
 public:
  Lists(const OptimizerAttributes& given, ffi::RemainingArgs operands, ffi::RemainingRets results)
      : given_(given), operands_(operands), results_(results) {}

  const OptimizerAttributes& given() const { return given_; }
  ffi::AnyBuffer operand(size_t i) const { return operands_[i]; }
  ffi::AnyBuffer result(size_t i) const { return results_[i]; }

  // Calls see(buffer, flags) with all gradients, then all parameters, then all states, for as long as it is true.
  template <class See>
  bool all_of(const See& see) const {
    const size_t first_grad = given_.has_grad_scale != 0 ? 3 : 2;
    const auto count = static_cast<size_t>(given_.count);
    for (size_t i = 0; i < count; ++i) {
      if (!see(operand(first_grad + i), FNN_READ_ONLY)) return false;
    }
    for (size_t i = 2; i < results_.size(); ++i) {
      if (!see(result(i), 0)) return false;
    }
    return true;
  }

  size_t size() const { return static_cast<size_t>(given_.count) + results_.size() - 2; }

 private:
  const OptimizerAttributes& given_;
  Operands operands_;
  Results results_;
};

// What the kernels are told about the lists, one member of the batch at a time.
class Tensors {
 public:
  Tensors(const Lists& lists, Device device, size_t leading, size_t batch) {
    const OptimizerAttributes& given = lists.given();
    const auto count = static_cast<size_t>(given.count);
    lists.all_of([&](const ffi::AnyBuffer& buffer, uint32_t flags) {
      tensors_.push_back(tensor_of(buffer, leading, device, flags));
      bytes_.push_back(buffer.size_bytes() / batch);
      return true;
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

Place place_of(const ffi::AnyBuffer& buffer) {
  return {buffer.untyped_data(), buffer.size_bytes(), dtype_of(buffer.element_type())};
}

// In a loop checking the lists took three times as long as stepping 60 arrays of 32.
fnn_status planned_step(const Lists& lists, fnn_optimizer_options& options, size_t leading) {
  const OptimizerAttributes& given = lists.given();
  const int64_t step = read_numbers(lists, 0, options);
  OptimizerPlans& plans = OptimizerPlans::of_this_thread();
  fnn_optimizer_plan* plan = plans.find(given.kind, given.states, [&](const std::vector<Place>& places) {
    auto place = places.begin();
    return places.size() == lists.size() &&
           lists.all_of([&](const ffi::AnyBuffer& buffer, uint32_t) { return *place++ == place_of(buffer); });
  });
  if (plan == nullptr) {
    Tensors tensors(lists, Device{FNN_CPU, 0}, leading, 1);
    const auto kind = static_cast<int32_t>(given.kind);
    if (const auto status = fnn_optimizer_plan_create(kind, &tensors.at_step(nullptr), &plan); status != FNN_SUCCESS) {
      return status;
    }
    std::vector<Place> places;
    lists.all_of([&](const ffi::AnyBuffer& buffer, uint32_t) {
      places.push_back(place_of(buffer));
      return true;
    });
    plans.keep(given.kind, given.states, std::move(places), plan);
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

}  // namespace

ffi::Error optimizer_step(Device device, const OptimizerAttributes& given, ffi::RemainingArgs operands,
                          ffi::RemainingRets results) {
  const Lists lists(given, operands, results);
  const ffi::AnyBuffer step = lists.result(1);
  const size_t leading = step.dimensions().size(), batch = step.element_count();
  if (batch == 0) return ffi::Error::Success();
  if (device.type == FNN_CUDA && lists.operand(0).element_type() != ffi::DataType::F32) {
    return {ffi::ErrorCode::kInvalidArgument, "`learning_rate` must be float32 on a GPU. Received: float64"};
  }
  fnn_optimizer_options options = given.options();
  const bool planned = device.type == FNN_CPU && batch == 1;
  const fnn_status status =
      planned ? planned_step(lists, options, leading) : steps_of_members(lists, options, device, leading, batch);
  return status == FNN_SUCCESS ? ffi::Error::Success() : failed(status);
}

}  // namespace fusednn::handlers
