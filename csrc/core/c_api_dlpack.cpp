// The C API's reader of DLPack's tensors.
#include "core/checks.h"
#include "core/dlpack.h"
#include "core/status.h"

using namespace fusednn;

namespace {

constexpr const char* kName = "dl_tensor";

fnn_tensor described(const dlpack::Tensor& from, uint64_t flags) {
  fnn_tensor to{};
  to.dtype = dlpack::float_dtype(from.dtype);
  if (to.dtype < 0) {
    const dlpack::DataType& type = from.dtype;
    fail_type("`dl_tensor` must be float32, float64, float16 or bfloat16. Received: DLPack type code " +
              std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits, " + std::to_string(type.lanes) +
              " lanes");
  }
  switch (from.device.type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost: to.device_type = FNN_CPU; break;
    case dlpack::kCuda:
    case dlpack::kCudaManaged:
      to.device_type = FNN_CUDA;
      to.device_id = from.device.id;
      break;
    default:
      fail_value("`dl_tensor` must be in the memory of the CPU or of an NVIDIA GPU. Received: DLPack device (" +
                 std::to_string(from.device.type) + ", " + std::to_string(from.device.id) + ")");
  }
  if (!from.offset_fits()) {
    fail_value("`dl_tensor` must begin at an address. Received: byte_offset=" + std::to_string(from.byte_offset));
  }
  to.data = from.first();
  to.shape = from.shape;
  to.strides = from.strides;
  to.ndim = from.ndim;
  to.flags = (flags & dlpack::kReadOnly) != 0 ? FNN_READ_ONLY : 0;
  return to;
}

}  // namespace

fnn_status fnn_tensor_from_dlpack(const void* dl_tensor, uint64_t flags, fnn_tensor* tensor) {
  return guarded([&] {
    require_pointer(kName, dl_tensor);
    require_pointer("tensor", tensor);
    const fnn_tensor to = described(*static_cast<const dlpack::Tensor*>(dl_tensor), flags);
    require_tensor({kName, &to});
    *tensor = to;
  });
}
