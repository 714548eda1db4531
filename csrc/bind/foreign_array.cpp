#include "bind/foreign_array.h"

#include <stdexcept>
#include <string>

#include "bind/cuda_settings.h"
#include "bind/numpy_array.h"
#include "bind/torch_tensor.h"
#include "core/dlpack.h"

namespace fusednn {
namespace {

constexpr const char* kCapsule = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

// Python hands addresses over as numbers.
void* address(uintptr_t number) {
  return reinterpret_cast<void*>(number);  // NOLINT(performance-no-int-to-ptr)
}

int32_t dtype_of(const Name& name, py::handle array, Elements wanted, const dlpack::DataType& type) {
  if (wanted == Elements::kCodes) {
    if (type.lanes == 1 && type.code == dlpack::kUInt && type.bits == 8) return FNN_UNSIGNED_CODES;
  } else if (const int32_t dtype = dlpack::float_dtype(type); dtype != kUnknown) {
    return dtype;
  }
  const std::string received = py::hasattr(array, "dtype")
                                   ? "dtype=" + py::str(array.attr("dtype")).cast<std::string>()
                                   : "DLPack type code " + std::to_string(type.code) + " of " +
                                         std::to_string(type.bits) + " bits, " + std::to_string(type.lanes) + " lanes";
  const char* const must = wanted == Elements::kCodes ? "uint8" : "float32, float64, float16 or bfloat16";
  throw py::type_error("`" + name + "` must be " + must + ". Received: " + received);
}

void set_device(const Name& name, const dlpack::Device& device, fnn_tensor& tensor) {
  switch (device.type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost: tensor.device_type = FNN_CPU; return;
    case dlpack::kCuda:
    case dlpack::kCudaManaged:
      tensor.device_type = FNN_CUDA;
      tensor.device_id = device.id;
      return;
    default:
      throw py::value_error("`" + name +
                            "` must be in the memory of the CPU or of an NVIDIA GPU. Received: DLPack device (" +
                            std::to_string(device.type) + ", " + std::to_string(device.id) + ")");
  }
}

int64_t elements(const dlpack::Tensor& tensor) {
  int64_t count = 1;
  for (int32_t i = 0; i < tensor.ndim; ++i) count *= tensor.shape[i];
  return count;
}

// In C order and of at least one axis.
bool in_order(const dlpack::Tensor& tensor) {
  int64_t expected = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return tensor.ndim > 0;
}

// Everything but shape and strides.
void fill(const Name& name, py::handle array, Elements wanted, const dlpack::Tensor& from, fnn_tensor& to) {
  to.dtype = dtype_of(name, array, wanted, from.dtype);
  set_device(name, from.device, to);
  // Wrappers of other arrays, and what stands for arrays while a program is traced.
  if (from.data == nullptr && elements(from) > 0) {
    throw py::type_error("`" + name + "` must have memory of its own. Received: one without, type=" + type_name(array));
  }
  to.data = from.first();
}

void fill(const Name& name, py::handle array, Elements wanted, const dlpack::Tensor& from, ForeignArray& to) {
  fill(name, array, wanted, from, to.tensor);
  to.shape.assign(from.shape, from.shape + from.ndim);
  if (from.strides != nullptr) to.strides.assign(from.strides, from.strides + from.ndim);
}

// Before anything is done with memory on a GPU: whether there is one that this library can use.
void require_cuda(const Name& name, py::handle array) {
  int32_t count = 0;
  if (fnn_cuda_device_count(&count) == FNN_SUCCESS) return;
  throw std::runtime_error("`" + name + "` must be in the CPU's memory: " + fnn_last_error() +
                           ". Received: type=" + type_name(array));
}

// What a package raised, as an error of its kind that names the argument.
[[noreturn]] void raise_by_name(const Name& name, py::handle array, py::error_already_set& error) {
  // Not what is no fault of the array: a keyboard interrupt, no memory.
  if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw py::error_already_set(error);
  PyObject* kind = PyExc_RuntimeError;
  for (PyObject* one : {PyExc_TypeError, PyExc_ValueError, PyExc_BufferError, PyExc_NotImplementedError}) {
    if (error.matches(one)) kind = one;
  }
  const auto said = py::str(error.value()).cast<std::string>();
  const std::string message = "`" + name +
                              "` must be an array that DLPack can share. Received: type=" + type_name(array) +
                              ", which says: " + said.substr(0, said.find('\n'));
  py::raise_from(error, kind, message.c_str());
  throw py::error_already_set();
}

// Memory that was given away, as JAX' donated arrays have, is not there to be asked about.
void require_not_deleted(const Name& name, py::handle array) {
  if (!py::hasattr(array, "is_deleted") || !array.attr("is_deleted")().cast<bool>()) return;
  throw py::value_error("`" + name + "` must be an array that still has its memory. Received: type=" +
                        type_name(array) + ", deleted or donated");
}

// The capsule, asked for without waiting for the device: the kernels run on the package's own stream.
py::object capsule_of(const Name& name, py::handle array) {
  const py::object method = array.attr("__dlpack__");
  const py::tuple device = array.attr("__dlpack_device__")();
  const bool on_gpu = device[0].cast<int32_t>() == dlpack::kCuda;
  if (on_gpu) require_cuda(name, array);
  const py::object stream = on_gpu ? py::object(py::int_(-1)) : py::object(py::none());
  try {
    return method(py::arg("stream") = stream, py::arg("max_version") = py::make_tuple(1, 1));
  } catch (py::error_already_set& error) {
    // Of before version 1.0.
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return method(py::arg("stream") = stream);
}

py::object exported(const Name& name, py::handle array) {
  try {
    require_not_deleted(name, array);
    const py::object capsule = capsule_of(name, array);
    for (const char* kind : {kVersioned, kCapsule}) {
      if (PyCapsule_IsValid(capsule.ptr(), kind) != 0) return capsule;
    }
    throw py::type_error("`" + name +
                         "` must give a new capsule of DLPack from `__dlpack__`. Received: type=" + type_name(capsule));
  } catch (py::error_already_set& error) {
    raise_by_name(name, array, error);
  }
}

template <class ManagedTensor>
void release(PyObject* holder) {
  auto* managed = static_cast<ManagedTensor*>(PyCapsule_GetPointer(holder, nullptr));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

// Takes the tensor out of its capsule, as DLPack asks of consumers; what is returned owns it.
template <class ManagedTensor>
ManagedTensor* consume(const py::object& capsule, const char* name, const char* used, py::object& owner) {
  auto* managed = static_cast<ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used) != 0) throw py::error_already_set();
  owner = py::reinterpret_steal<py::object>(PyCapsule_New(managed, nullptr, &release<ManagedTensor>));
  if (!owner) throw py::error_already_set();
  return managed;
}

// The package that the array's type is from: "torch", "cupy".
std::string package_of(py::handle array) {
  const auto module = py::type::of(array).attr("__module__").cast<std::string>();
  return module.substr(0, module.find('.'));
}

ForeignArray through_dlpack(const Name& name, py::handle given, Elements wanted) {
  ForeignArray result{};
  auto array = py::reinterpret_borrow<py::object>(given);
  if (is_torch_tensor(array)) {
    require_not_recorded(name, array);
    require_not_negated(name, array);
    // One that requires gradients is not handed out, not even where nothing records; what is detached shares its memory.
    array = array.attr("detach")();
  }
  const py::object capsule = exported(name, array);
  if (PyCapsule_IsValid(capsule.ptr(), kVersioned) != 0) {
    const auto* managed =
        consume<dlpack::ManagedVersioned>(capsule, kVersioned, "used_dltensor_versioned", result.owner);
    if (managed->version.major != 1) {
      throw py::type_error("`" + name + "` must speak version 1 of DLPack. Received: version " +
                           std::to_string(managed->version.major));
    }
    if ((managed->flags & dlpack::kReadOnly) != 0) result.tensor.flags = FNN_READ_ONLY;
    fill(name, array, wanted, managed->tensor, result);
  } else {
    const auto* managed = consume<dlpack::Managed>(capsule, kCapsule, "used_dltensor", result.owner);
    // Without a version there is no word on whether the array may be written. CuPy's always may, before version 14 too.
    if (package_of(array) != "cupy") result.tensor.flags = FNN_READ_ONLY;
    fill(name, array, wanted, managed->tensor, result);
  }
  return result;
}

// CUDA array interface, version 3 (Numba's documentation).
ForeignArray through_cuda_interface(const Name& name, py::handle array, Elements wanted) {
  require_cuda(name, array);
  const py::dict interface = array.attr("__cuda_array_interface__");
  ForeignArray result{};
  result.owner = py::reinterpret_borrow<py::object>(array);
  const auto type = interface["typestr"].cast<std::string>();
  const bool codes = wanted == Elements::kCodes;
  const int32_t dtype = codes           ? (type == "|u1" ? FNN_UNSIGNED_CODES : kUnknown)
                        : type == "<f4" ? FNN_FLOAT32
                        : type == "<f8" ? FNN_FLOAT64
                        : type == "<f2" ? FNN_FLOAT16
                                        : kUnknown;
  if (dtype == kUnknown) {
    const std::string must = codes ? "uint8" : "float32, float64 or float16 (bfloat16 through DLPack)";
    throw py::type_error("`" + name + "` must be " + must + ". Received: dtype=" + type);
  }
  result.tensor.dtype = dtype;
  result.tensor.device_type = FNN_CUDA;
  if (py::hasattr(array, "__dlpack_device__")) {
    result.tensor.device_id = array.attr("__dlpack_device__")().cast<py::tuple>()[1].cast<int32_t>();
  }
  const py::tuple data = interface["data"];
  result.tensor.data = address(data[0].cast<uintptr_t>());
  result.tensor.flags = data[1].cast<bool>() ? FNN_READ_ONLY : 0;
  for (const py::handle size : interface["shape"]) result.shape.push_back(size.cast<int64_t>());
  if (interface.contains("strides") && !interface["strides"].is_none()) {
    const int64_t element = type[2] - '0';
    for (const py::handle stride : interface["strides"]) {
      const auto bytes = stride.cast<int64_t>();
      if (bytes % element != 0) {
        throw py::value_error("`" + name + "` must have strides that are multiples of its element size, " +
                              std::to_string(element) + ". Received: a stride of " + std::to_string(bytes));
      }
      result.strides.push_back(bytes / element);
    }
  }
  return result;
}

uintptr_t current_stream(py::handle array, int32_t device_id) {
  if (const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(array.ptr()))) {
    void* stream = nullptr;
    if (api->current_stream(dlpack::kCuda, device_id, &stream) != 0) throw py::error_already_set();
    return reinterpret_cast<uintptr_t>(stream);
  }
  const std::string package = package_of(array);
  if (package == "torch") {
    const py::object cuda = py::module_::import("torch.cuda");
    return cuda.attr("current_stream")(device_id).attr("cuda_stream").cast<uintptr_t>();
  }
  if (package == "cupy") {
    return py::module_::import("cupy.cuda").attr("get_current_stream")().attr("ptr").cast<uintptr_t>();
  }
  if (py::hasattr(array, "__cuda_array_interface__")) {
    const py::dict interface = array.attr("__cuda_array_interface__");
    if (interface.contains("stream") && !interface["stream"].is_none()) return interface["stream"].cast<uintptr_t>();
  }
  return 0;
}

}  // namespace

bool is_foreign_array(py::handle object) {
  const py::handle type = py::type::handle_of(object);
  return (py::hasattr(type, "__dlpack__") && py::hasattr(type, "__dlpack_device__")) ||
         py::hasattr(type, "__cuda_array_interface__");
}

bool read_exchanged_array(const Name& name, py::handle array, Elements elements, fnn_tensor& tensor) {
  const dlpack::ExchangeApi* api = exchange_api_of(Py_TYPE(array.ptr()));
  if (api == nullptr) return false;
  require_not_recorded(name, array);
  dlpack::Tensor from{};
  if (api->tensor_from_object(array.ptr(), &from) != 0) {
    const py::error_already_set error;  // takes the exception over
    std::string reason = py::str(error.value()).cast<std::string>();
    reason = reason.substr(0, reason.find('\n'));  // where PyTorch's code raised it follows
    throw py::type_error("`" + name + "` must be a dense tensor with memory of its own. Received: " + reason);
  }
  if (from.device.type == dlpack::kCuda) require_cuda(name, array);
  fill(name, array, elements, from, tensor);
  if (!in_order(from)) require_not_negated(name, array);
  tensor.ndim = from.ndim;
  tensor.shape = from.shape;
  tensor.strides = from.strides;
  return true;
}

ForeignArray read_foreign_array(const Name& name, py::handle array, Elements elements) {
  const bool has_dlpack = py::hasattr(py::type::handle_of(array), "__dlpack__");
  return has_dlpack ? through_dlpack(name, array, elements) : through_cuda_interface(name, array, elements);
}

void follow_stream_of(py::handle array, int32_t device_id) {
  fnn_cuda_settings settings{};
  settings.size = sizeof settings;
  settings.stream = address(current_stream(array, device_id));
  add_chosen_settings(array, settings);
  fnn_cuda_set(&settings);
}

}  // namespace fusednn
