#include "bind/cuda_interface.h"

#include <limits>
#include <string>
#include <vector>

#include "bind/array_view.h"
#include "bind/call_stream.h"
#include "bind/numpy_array.h"
#include "bind/refuse.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

constexpr const char* kAttribute = "__cuda_array_interface__";

// The dictionary, and whose it is.
class Interface {
 public:
  Interface(const Name& name, py::handle array) : name_(name) {
    py::object found;
    try {
      found = array.attr(kAttribute);
    } catch (py::error_already_set& error) {
      raise_by_name(name, "be an array that the CUDA array interface can share", array, error);
    }
    if (!py::isinstance<py::dict>(found)) {
      throw py::type_error("`" + name + "." + kAttribute +
                           "` must be a dictionary. Received: type=" + type_name(found));
    }
    entries_ = std::move(found);
  }

  py::object required(const char* key) const {
    if (entries_.contains(key)) return entries_[key];
    throw py::value_error("`" + name_ + "." + kAttribute + "` must have the entry '" + key +
                          "'. Received: " + py::repr(py::list(entries_)).cast<std::string>());
  }
  py::object optional(const char* key) const { return entries_.contains(key) ? py::object(entries_[key]) : py::none(); }

  [[noreturn]] void refuse_type(const char* key, const char* must, const py::object& value) const {
    throw py::type_error(message(key, must, value));
  }
  [[noreturn]] void refuse_value(const char* key, const char* must, const py::object& value) const {
    throw py::value_error(message(key, must, value));
  }

  // Integers of any kind; `value` is what messages show.
  int64_t integer(const char* key, const char* must, py::handle number, const py::object& value) const {
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(number.ptr()));
    int overflow = 0;
    const int64_t result = index ? PyLong_AsLongLongAndOverflow(index.ptr(), &overflow) : 0;
    if (!index) {
      PyErr_Clear();
      refuse_type(key, must, value);
    }
    if (overflow != 0) refuse_value(key, must, value);
    return result;
  }
  std::vector<int64_t> integers(const char* key, const char* must, const py::object& value) const {
    if (!py::isinstance<py::tuple>(value) && !py::isinstance<py::list>(value)) refuse_type(key, must, value);
    std::vector<int64_t> result;
    for (const py::handle item : value) result.push_back(integer(key, must, item, value));
    return result;
  }

  std::optional<uintptr_t> stream() const {
    constexpr const char* kMust =
        "be None, 1 (the legacy default stream), 2 (the thread's default stream) or a stream's address";
    const py::object given = optional("stream");
    if (given.is_none()) return std::nullopt;
    const int64_t number = integer("stream", kMust, given, given);
    if (number <= 0) refuse_value("stream", kMust, given);
    return static_cast<uintptr_t>(number);
  }

 private:
  std::string message(const char* key, const char* must, const py::object& value) const {
    return "`" + name_ + "." + kAttribute + "['" + key + "']` must " + must +
           ". Received: " + py::repr(value).cast<std::string>();
  }

  Name name_;
  py::dict entries_;
};

int32_t dtype_of(const Name& name, const Interface& from, Elements wanted) {
  const py::object given = from.required("typestr");
  if (!py::isinstance<py::str>(given)) from.refuse_type("typestr", "be a string", given);
  const auto type = given.cast<std::string>();
  if (wanted == Elements::kCodes && type == "|u1") return FNN_UNSIGNED_CODES;
  if (wanted == Elements::kNumbers) {
    if (type == "<f4") return FNN_FLOAT32;
    if (type == "<f8") return FNN_FLOAT64;
    if (type == "<f2") return FNN_FLOAT16;
  }
  const char* const must =
      wanted == Elements::kCodes ? "uint8" : "float32, float64 or float16 (bfloat16 through DLPack)";
  throw py::type_error("`" + name + "` must be " + must + ". Received: dtype=" + type);
}

void read_layout(const Name& name, const Interface& from, int64_t element, ForeignArray& to) {
  constexpr const char* kShape = "be a tuple of integers of at least 0";
  const py::object shape = from.required("shape");
  to.shape = from.integers("shape", kShape, shape);
  for (const int64_t size : to.shape) {
    if (size < 0) from.refuse_value("shape", kShape, shape);
  }
  require_axes(name, static_cast<int64_t>(to.shape.size()), to.shape.data());
  const py::object strides = from.optional("strides");
  if (strides.is_none()) return;
  constexpr const char* kStrides = "be None, or a tuple of integers with one for each axis";
  for (const int64_t bytes : from.integers("strides", kStrides, strides)) {
    if (bytes % element != 0) {
      throw py::value_error("`" + name + "` must have strides that are multiples of its element size, " +
                            std::to_string(element) + ". Received: a stride of " + std::to_string(bytes));
    }
    to.strides.push_back(bytes / element);
  }
  if (to.strides.size() != to.shape.size()) from.refuse_value("strides", kStrides, strides);
}

bool is_empty(const ForeignArray& array) {
  for (const int64_t size : array.shape) {
    if (size == 0) return true;
  }
  return false;
}

// Address and whether it may be written; the device is known to CUDA.
void read_memory(const Interface& from, ForeignArray& to) {
  constexpr const char* kData = "be a tuple of an address and whether it is read-only";
  const py::object given = from.required("data");
  if (!py::isinstance<py::tuple>(given) || py::len(given) != 2) from.refuse_type("data", kData, given);
  const auto data = py::reinterpret_borrow<py::tuple>(given);
  const int64_t address = from.integer("data", kData, data[0], given);
  const int is_read_only = PyObject_IsTrue(py::object(data[1]).ptr());
  if (is_read_only < 0) throw py::error_already_set();
  to.tensor.data = address_of(static_cast<uintptr_t>(address));
  to.tensor.flags = is_read_only != 0 ? FNN_READ_ONLY : 0;
  to.tensor.device_type = FNN_CUDA;
  to.tensor.device_id = current_call().device_id();  // of no memory
  if (is_empty(to)) return;
  int32_t device_id = -1;
  if (address > 0) check(fnn_cuda_device_of(to.tensor.data, &device_id));
  if (device_id < 0) from.refuse_value("data", "have the address of memory that a GPU can use", given);
  to.tensor.device_id = device_id;
}

}  // namespace

ForeignArray read_cuda_interface(const Name& name, py::handle array, Elements elements) {
  require_cuda(name, array);
  const Interface from(name, array);
  constexpr const char* kVersion = "be an integer from 0 to 3";
  const py::object version = from.required("version");
  const int64_t number = from.integer("version", kVersion, version, version);
  if (number < 0 || number > 3) from.refuse_value("version", kVersion, version);
  const py::object mask = from.optional("mask");
  if (!mask.is_none()) {
    throw py::value_error("`" + name + "` must have no mask: all its elements count. Received: mask of type " +
                          type_name(mask));
  }
  ForeignArray result{};
  result.owner = py::reinterpret_borrow<py::object>(array);
  result.tensor.dtype = dtype_of(name, from, elements);
  read_layout(name, from, result.tensor.dtype == FNN_UNSIGNED_CODES ? 1 : element_size(result.tensor.dtype), result);
  read_memory(from, result);
  current_call().join(name, array, result.tensor.device_id, from.stream());
  return result;
}

std::optional<uintptr_t> stream_of_interface(const Name& name, py::handle array) {
  if (!py::hasattr(array, kAttribute)) return std::nullopt;
  return Interface(name, array).stream();
}

}  // namespace fusednn
