#include "bind/call_stream.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "bind/array_view.h"
#include "bind/cuda_interface.h"
#include "bind/cuda_settings.h"
#include "bind/numpy_array.h"
#include "bind/torch_tensor.h"
#include "fusednn/fusednn.h"

namespace fusednn {
namespace {

thread_local CallStream* current = nullptr;

// Of PyTorch and CuPy: the stream of all their arrays on the device.
std::optional<uintptr_t> stream_of_package(py::handle array, int32_t device_id) {
  if (const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(array.ptr()))) {
    void* stream = nullptr;
    if (api->current_stream(dlpack::kCuda, device_id, &stream) != 0) throw py::error_already_set();
    return reinterpret_cast<uintptr_t>(stream);
  }
  if (is_of_torch(array)) {
    const py::object cuda = py::module_::import("torch.cuda");
    return cuda.attr("current_stream")(device_id).attr("cuda_stream").cast<uintptr_t>();
  }
  if (package_of(array) == "cupy") {
    // Of the array's device, which need not be CuPy's current one.
    return py::module_::import("cupy.cuda").attr("get_current_stream")(device_id).attr("ptr").cast<uintptr_t>();
  }
  return std::nullopt;
}

}  // namespace

CallStream::CallStream() : outer_(std::exchange(current, this)) {}
CallStream::~CallStream() { current = outer_; }

void CallStream::choose(py::handle array, int32_t device_id, std::optional<uintptr_t> own, bool of_package) {
  type_ = Py_TYPE(array.ptr());
  of_package_ = of_package;
  device_id_ = device_id;
  // 1 is the legacy default stream by DLPack's and the interface's count, null by CUDA's.
  stream_ = own.value_or(0) == 1 ? 0 : own.value_or(0);
  fnn_cuda_settings settings{};
  settings.size = sizeof settings;
  settings.stream = address_of(stream_);
  add_chosen_settings(array, settings);
  check(fnn_cuda_set(&settings));
}

int64_t CallStream::join(const Name& name, py::handle array, int32_t device_id, std::optional<uintptr_t> own,
                         bool of_package) {
  if (type_ == nullptr) {
    choose(array, device_id, own, of_package);
  } else if (own.has_value() && device_id == device_id_) {  // else the call is going to be refused
    const uintptr_t other = *own == 1 ? 0 : *own;
    if (other != stream_) {
      wait_for(name, array, other);
    } else if (of_package) {  // the next ones are likely of this type
      type_ = Py_TYPE(array.ptr());
      of_package_ = true;
    }
  }
  constexpr int64_t kNothingToWaitFor = -1, kLegacyDefault = 1;
  if (own.has_value()) return kNothingToWaitFor;
  return stream_ == 0 ? kLegacyDefault : static_cast<int64_t>(stream_);
}

int64_t CallStream::join(const Name& name, py::handle array, int32_t device_id) {
  // Known without asking: lists of arrays are mostly of one package.
  if (of_package_ && device_id == device_id_ && Py_TYPE(array.ptr()) == type_) return -1;
  std::optional<uintptr_t> own = stream_of_package(array, device_id);
  const bool of_package = own.has_value();
  if (!of_package) own = stream_of_interface(name, array);
  return join(name, array, device_id, own, of_package);
}

void CallStream::wait_for(const Name& name, py::handle array, uintptr_t other) {
  if (std::find(joined_.begin(), joined_.end(), other) != joined_.end()) return;
  if (fnn_cuda_wait(device_id_, address_of(stream_), address_of(other)) != FNN_SUCCESS) {
    throw std::runtime_error("`" + name + "` must be usable on the stream of the call's first array on the GPU, " +
                             std::to_string(stream_) + ". Received: type=" + type_name(array) + ", on stream " +
                             std::to_string(other) + ": " + fnn_last_error());
  }
  joined_.push_back(other);
}

void CallStream::finish() {
  for (const uintptr_t other : joined_) {
    check(fnn_cuda_wait(device_id_, address_of(other), address_of(stream_)));
  }
}

CallStream& current_call() {
  if (current == nullptr) throw std::logic_error("arrays on a GPU are read within a call");
  return *current;
}

void require_cuda(const Name& name, py::handle array) {
  int32_t count = 0;
  if (fnn_cuda_device_count(&count) == FNN_SUCCESS) return;
  throw std::runtime_error("`" + name + "` must be in the CPU's memory: " + fnn_last_error() +
                           ". Received: type=" + type_name(array));
}

std::string package_of(py::handle array) {
  const py::object said = py::type::of(array).attr("__module__");
  if (!py::isinstance<py::str>(said)) return {};
  const auto module = said.cast<std::string>();
  return module.substr(0, module.find('.'));
}

bool is_of_torch(py::handle array) { return is_torch_tensor(array) || package_of(array) == "torch"; }

void* address_of(uintptr_t number) {
  return reinterpret_cast<void*>(number);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace fusednn
