// What every handler for XLA's foreign function interface is made of.
//
// A handler holds no arithmetic: it describes XLA's buffers to the C API, which checks and computes. Its buffers come in
// the order of the call: operands, of which some may be absent, then results. Under vmap all of them have the same axes
// in front (vmap_method="broadcast_all"); the C API is then called for one member of the batch after the other.
//
// Handlers run on threads of XLA's. The kernels' own threads compute: they obey set_num_threads, and a call that
// finds them busy runs on the thread that it is on. XLA's pool can run tasks but not wait for them.
//
// A handler for GPUs is compiled like one for the CPU: XLA's stream is a pointer that the C API is given, no header of
// CUDA's is included, and the kernels lie in libfusednn_cuda.so.
#pragma once

#include <array>

#include "fusednn/fusednn.h"
#include "xla/ffi/api/ffi.h"

namespace fusednn::handlers {

namespace ffi = xla::ffi;

// Where a handler's buffers are.
struct Device {
  fnn_device_type type;
  int32_t id;
};

inline ffi::Error failed(fnn_status status) {
  const bool of_caller = status == FNN_ERROR_TYPE || status == FNN_ERROR_VALUE;
  return {of_caller ? ffi::ErrorCode::kInvalidArgument : ffi::ErrorCode::kInternal, fnn_last_error()};
}

// -1 for what the kernels do not know; the C API says so.
inline int32_t dtype_of(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:  return FNN_FLOAT32;
    case ffi::DataType::F64:  return FNN_FLOAT64;
    case ffi::DataType::F16:  return FNN_FLOAT16;
    case ffi::DataType::BF16: return FNN_BFLOAT16;
    default:                  return -1;
  }
}

// The buffers of a call. Theirs are the only kind there is; XLA's own `get` makes a string for what may be wrong each
// time, which for lists of hundreds took longer than the step.
struct Operands : ffi::RemainingArgs {
  explicit Operands(const ffi::RemainingArgs& given) : ffi::RemainingArgs(given) {}
  ffi::AnyBuffer operator[](size_t i) const {
    return ffi::AnyBuffer(static_cast<const XLA_FFI_Buffer*>(args()->args[offset() + i]));
  }
};
struct Results : ffi::RemainingRets {
  explicit Results(const ffi::RemainingRets& given) : ffi::RemainingRets(given) {}
  ffi::AnyBuffer operator[](size_t i) const {
    return ffi::AnyBuffer(static_cast<const XLA_FFI_Buffer*>(rets()->rets[offset() + i]));
  }
};

// A buffer without its first `leading` axes, at the first member of the batch.
inline fnn_tensor tensor_of(const ffi::AnyBuffer& buffer, size_t leading, Device device, uint32_t flags) {
  const auto shape = buffer.dimensions();
  return {buffer.untyped_data(),
          shape.begin() + leading,
          nullptr,
          static_cast<int32_t>(shape.size() - leading),
          dtype_of(buffer.element_type()),
          device.type,
          device.id,
          flags};
}

constexpr int64_t kAnyRank = -1;

// The tensors of a call, one member of the batch at a time.
class Frame {
 public:
  // `rank` is that of the first operand without vmap; kAnyRank: elements do not depend on one another.
  Frame(Device device, int64_t rank, ffi::RemainingArgs operands, ffi::RemainingRets results)
      : device_(device), operands_(operands), results_(results) {
    if (rank == kAnyRank) return;
    const auto shape = operands_[0].dimensions();
    leading_ = shape.size() - static_cast<size_t>(rank);
    for (size_t i = 0; i < leading_; ++i) batch_ *= shape[i];
  }

  // The next operand, null where it is not `given`.
  const fnn_tensor* operand(bool given = true) {
    return given ? add(operands_[next_operand_++], FNN_READ_ONLY) : nullptr;
  }

  const fnn_tensor* result() { return add(results_[next_result_++], 0); }

  // The next operand and result, which share their memory (input_output_aliases).
  const fnn_tensor* updated(bool given = true) {
    if (!given) return nullptr;
    ++next_operand_;
    return result();
  }

  template <class Call>
  ffi::Error for_each(const Call& call) {
    for (int64_t member = 0; member < batch_; ++member) {
      if (const fnn_status status = call(); status != FNN_SUCCESS) return failed(status);
      for (size_t i = 0; i < count_; ++i) tensors_[i].data = static_cast<char*>(tensors_[i].data) + bytes_[i];
    }
    return ffi::Error::Success();
  }

 private:
  const fnn_tensor* add(const ffi::AnyBuffer& buffer, uint32_t flags) {
    tensors_[count_] = tensor_of(buffer, leading_, device_, flags);
    bytes_[count_] = batch_ == 0 ? 0 : buffer.size_bytes() / static_cast<size_t>(batch_);
    return &tensors_[count_++];
  }

  Device device_;
  Operands operands_;
  Results results_;
  size_t leading_ = 0, next_operand_ = 0, next_result_ = 0, count_ = 0;
  int64_t batch_ = 1;
  std::array<fnn_tensor, 16> tensors_;
  std::array<size_t, 16> bytes_;
};

// What the kernels on a GPU enqueue their work on, for one call.
class OnStream {
 public:
  explicit OnStream(void* stream) {
    fnn_cuda_settings settings{};
    settings.size = sizeof settings;
    settings.stream = stream;
    status_ = fnn_cuda_set(&settings);
  }
  ~OnStream() { fnn_cuda_set(nullptr); }
  OnStream(const OnStream&) = delete;
  OnStream& operator=(const OnStream&) = delete;
  fnn_status status() const { return status_; }

 private:
  fnn_status status_;
};

// What XLA's decoding of a call ends in, for either device. `Attributes` are made of the numbers that the program was
// compiled for, an array, so that all handlers have pointers of one type: XLA's templates, a few kilobytes each, are
// there once, and a call looks up one name.
template <auto function>
struct OnDevice;
template <class Attributes, ffi::Error (*function)(Device, const Attributes&, ffi::RemainingArgs, ffi::RemainingRets)>
struct OnDevice<function> {
  using Numbers = ffi::Span<const double>;
  static ffi::Error cpu(Numbers numbers, ffi::RemainingArgs operands, ffi::RemainingRets results) {
    return call(Device{FNN_CPU, 0}, numbers, operands, results);
  }
  static ffi::Error cuda(void* stream, int32_t device, Numbers numbers, ffi::RemainingArgs operands,
                         ffi::RemainingRets results) {
    const OnStream on_stream(stream);
    if (on_stream.status() != FNN_SUCCESS) return failed(on_stream.status());
    return call(Device{FNN_CUDA, device}, numbers, operands, results);
  }

 private:
  static ffi::Error call(Device device, Numbers numbers, ffi::RemainingArgs operands, ffi::RemainingRets results) {
    if (numbers.size() != Attributes::kNumbers) {
      return {ffi::ErrorCode::kInvalidArgument, "the program was made by another release of fusednn.jax"};
    }
    return function(device, Attributes(numbers.begin()), operands, results);
  }
};

inline int64_t integer(double number) { return static_cast<int64_t>(number); }

}  // namespace fusednn::handlers

// Defines fnn_xla_NAME_cpu and fnn_xla_NAME_cuda of the function of that name, which takes a Device, attributes, and the
// operands and results.
#define FNN_XLA_HANDLERS(name)                                                                              \
  FNN_XLA_DECLARE(fnn_xla_##name##_cpu);                                                                    \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                            \
      fnn_xla_##name##_cpu, &::fusednn::handlers::OnDevice<&name>::cpu,                                     \
      xla::ffi::Ffi::Bind().Attr<xla::ffi::Span<const double>>("numbers").RemainingArgs().RemainingRets()); \
  FNN_XLA_DECLARE(fnn_xla_##name##_cuda);                                                                   \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(fnn_xla_##name##_cuda, &::fusednn::handlers::OnDevice<&name>::cuda,         \
                                xla::ffi::Ffi::Bind()                                                       \
                                    .Ctx<xla::ffi::PlatformStream<void*>>()                                 \
                                    .Ctx<xla::ffi::DeviceOrdinal>()                                         \
                                    .Attr<xla::ffi::Span<const double>>("numbers")                          \
                                    .RemainingArgs()                                                        \
                                    .RemainingRets())

#define FNN_XLA_DECLARE(symbol) \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* symbol(XLA_FFI_CallFrame*)
