#include "bind/foreign_array.h"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include "bind/call_stream.h"
#include "bind/cuda_interface.h"
#include "bind/numpy_array.h"
#include "bind/refuse.h"
#include "bind/torch_tensor.h"
#include "core/dlpack.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

constexpr const char* kCapsule = "dltensor";
constexpr const char* kVersioned = "dltensor_versioned";

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
  // A producer may be mistaken.
  require_axes(name, from.ndim, from.shape);
  if (!from.offset_fits()) {
    throw py::value_error("`" + name +
                          "` must begin at an address. Received: byte_offset=" + std::to_string(from.byte_offset));
  }
  fill(name, array, wanted, from, to.tensor);
  to.shape.assign(from.shape, from.shape + from.ndim);
  if (from.strides != nullptr) to.strides.assign(from.strides, from.strides + from.ndim);
}

// Memory that was given away, as JAX' donated arrays have, is not there to be asked about.
void require_not_deleted(const Name& name, py::handle array) {
  if (!py::hasattr(array, "is_deleted") || !py::bool_(array.attr("is_deleted")())) return;
  throw py::value_error("`" + name + "` must be an array that still has its memory. Received: type=" +
                        type_name(array) + ", deleted or donated");
}

// Makes a GPU the current one of PyTorch, which hands out no tensors of others.
class CurrentForTorch {
 public:
  explicit CurrentForTorch(int32_t device_id) : device_(py::module_::import("torch.cuda").attr("device")(device_id)) {
    device_.attr("__enter__")();
  }
  CurrentForTorch(const CurrentForTorch&) = delete;
  CurrentForTorch& operator=(const CurrentForTorch&) = delete;
  ~CurrentForTorch() {
    const auto none = py::none();
    const auto left = py::reinterpret_steal<py::object>(
        PyObject_CallMethod(device_.ptr(), "__exit__", "OOO", none.ptr(), none.ptr(), none.ptr()));
    if (!left) PyErr_WriteUnraisable(device_.ptr());
  }

 private:
  py::object device_;
};

dlpack::Device device_of(const Name& name, py::handle array) {
  const py::object said = array.attr("__dlpack_device__")();
  const auto pair = py::reinterpret_steal<py::object>(PySequence_Tuple(said.ptr()));
  dlpack::Device device{};
  if (!pair || PyArg_ParseTuple(pair.ptr(), "ii", &device.type, &device.id) == 0) {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw py::error_already_set();
    PyErr_Clear();
    throw py::type_error("`" + name + ".__dlpack_device__()` must be a pair of integers. Received: " +
                         py::repr(said).cast<std::string>());
  }
  return device;
}

// The capsule, after which its memory may be used on the call's stream.
py::object capsule_of(const Name& name, py::handle array) {
  const py::object method = array.attr("__dlpack__");
  const dlpack::Device device = device_of(name, array);
  py::object stream = py::none();
  std::optional<CurrentForTorch> current;
  if (device.type == dlpack::kCuda || device.type == dlpack::kCudaManaged) {
    require_cuda(name, array);
    stream = py::int_(current_call().join(name, array, device.id));
    if (is_of_torch(array)) current.emplace(device.id);
  }
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
    raise_by_name(name, "be an array that DLPack can share", array, error);
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
  // The new owner is there before the old one gives up, and releases nothing before that.
  if (managed != nullptr) owner = py::reinterpret_steal<py::object>(PyCapsule_New(managed, nullptr, nullptr));
  if (!owner || PyCapsule_SetName(capsule.ptr(), used) != 0 ||
      PyCapsule_SetDestructor(owner.ptr(), &release<ManagedTensor>) != 0) {
    throw py::error_already_set();
  }
  return managed;
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
    if ((managed->flags & (dlpack::kReadOnly | dlpack::kIsCopied)) != 0) result.tensor.flags = FNN_READ_ONLY;
    fill(name, array, wanted, managed->tensor, result);
  } else {
    const auto* managed = consume<dlpack::Managed>(capsule, kCapsule, "used_dltensor", result.owner);
    // Without a version there is no word on whether the array may be written. CuPy's always may, before version 14 too.
    if (package_of(array) != "cupy") result.tensor.flags = FNN_READ_ONLY;
    fill(name, array, wanted, managed->tensor, result);
  }
  return result;
}

}  // namespace

void require_axes(const Name& name, int64_t count, const int64_t* shape) {
  fnn_tensor axes{};
  axes.ndim = static_cast<int32_t>(std::min<int64_t>(count, INT32_MAX));
  axes.shape = shape;
  if (const std::string fault = axes_fault(axes); !fault.empty()) throw py::value_error("`" + name + "` " + fault);
}

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
  fill(name, array, elements, from, tensor);
  if (tensor.device_type == FNN_CUDA) {
    require_cuda(name, array);
    current_call().join(name, array, tensor.device_id);
  }
  if (!in_order(from)) require_not_negated(name, array);
  tensor.ndim = from.ndim;
  tensor.shape = from.shape;
  tensor.strides = from.strides;
  return true;
}

ForeignArray read_foreign_array(const Name& name, py::handle array, Elements elements) {
  const bool has_dlpack = py::hasattr(py::type::handle_of(array), "__dlpack__");
  return has_dlpack ? through_dlpack(name, array, elements) : read_cuda_interface(name, array, elements);
}

}  // namespace fusednn
