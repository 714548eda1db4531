#include "bind/array_view.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "bind/call_stream.h"
#include "bind/cuda_settings.h"
#include "bind/numpy_array.h"
#include "bind/torch_tensor.h"
#include "core/tensor.h"

namespace fusednn {
namespace {

using py::detail::npy_api;

// NumPy's own numbers of its types; bfloat16 comes from ml_dtypes and is known by its scalar type.
int32_t dtype_from_descr(const Name& name, const py::dtype& descr) {
  const int number = descr.num();
  // '=' is this machine's order, '|' that of single bytes; arrays made from C types may spell the order out.
  const char order = descr.byteorder();
  const char spelt_out = std::endian::native == std::endian::little ? '<' : '>';
  const bool native = order == '=' || order == '|' || order == spelt_out;
  if (native && number == npy_api::NPY_FLOAT_) return FNN_FLOAT32;
  if (native && number == npy_api::NPY_DOUBLE_) return FNN_FLOAT64;
  if (native && number == 23) return FNN_FLOAT16;
  if (native && number >= 256) {
    const auto modules = py::reinterpret_borrow<py::dict>(PyImport_GetModuleDict());
    const py::str module("ml_dtypes");
    if (modules.contains(module) && descr.attr("type").is(py::object(modules[module]).attr("bfloat16"))) {
      return FNN_BFLOAT16;
    }
  }
  throw py::type_error("`" + name + "` must be float32, float64, float16 or bfloat16. Received: dtype=" +
                       py::str(descr.attr("str")).cast<std::string>() + " (" +
                       py::str(static_cast<const py::object&>(descr)).cast<std::string>() + ")");
}

int32_t dtype_of(const Name& name, py::handle array) {
  PyObject* const descr = fields(array).descr;
  int32_t dtype = known_dtype(descr);
  if (dtype == kUnknown) {
    dtype = dtype_from_descr(name, py::reinterpret_borrow<py::dtype>(descr));
    remember_dtype(descr, dtype);
  }
  return dtype;
}

bool same_shape(const fnn_tensor& a, const fnn_tensor& b) {
  return a.ndim == b.ndim && std::equal(a.shape, a.shape + a.ndim, b.shape);
}

// Strides of NumPy's arrays are in bytes, those of tensors in elements.
bool strides_are_of_elements(py::handle array) {
  const auto& a = fields(array);
  const auto size = py::reinterpret_borrow<py::array>(array).itemsize();
  return std::all_of(a.strides, a.strides + a.nd, [size](auto stride) { return stride % size == 0; });
}

// With the memory layout of `model`, an array of the same shape.
py::object numpy_copy_like(py::handle array, py::handle model) {
  const py::object empty_like = py::module_::import("numpy").attr("empty_like");
  py::object copy = empty_like(model, py::arg("dtype") = array.attr("dtype"));
  copy[py::ellipsis()] = array;
  return copy;
}

// What stands for an array of JAX while a function is traced is of another class, by the kind of tracing.
void refuse_traced(const Name& name, py::handle array) {
  const std::string type = type_name(array);
  if (package_of(array) != "jax" || !type.ends_with("Tracer")) return;
  throw py::type_error("`" + name + "` must be an array with numbers in memory; while JAX traces a function " +
                       "(jit, grad, vmap) there are none: use fusednn.jax there. Received: type=" + type);
}

}  // namespace

ArrayView::ArrayView(const Name& name, py::handle array) : name_(name) {
  if (!is_array(array)) {
    view_foreign(name, array, Elements::kNumbers);
    return;
  }
  const auto& a = fields(array);
  owner_ = py::reinterpret_borrow<py::object>(array);
  tensor_.dtype = dtype_of(name, array);
  tensor_.data = a.data;
  tensor_.ndim = a.nd;
  static_assert(sizeof(Py_intptr_t) == sizeof(int64_t));
  tensor_.shape = reinterpret_cast<const int64_t*>(a.dimensions);
  tensor_.device_type = FNN_CPU;
  tensor_.flags = is_writable(a) ? 0 : FNN_READ_ONLY;
  if (!is_c_contiguous(a)) {
    const auto size = py::reinterpret_borrow<py::array>(array).itemsize();
    if (!strides_are_of_elements(array)) {
      throw py::value_error("`" + name + "` must have strides that are multiples of its element size, " +
                            std::to_string(size) +
                            ". Received: strides=" + py::str(array.attr("strides")).cast<std::string>());
    }
    for (int i = 0; i < a.nd; ++i) strides_.push_back(a.strides[i] / size);
    tensor_.strides = strides_.data();
  }
  present_ = true;
}

void ArrayView::view_foreign(const Name& name, py::handle array, Elements elements) {
  if (!read_exchanged_array(name, array, elements, tensor_)) view_capsule(name, array, elements);
  owner_ = py::reinterpret_borrow<py::object>(array);
  present_ = true;
}

void ArrayView::view_capsule(const Name& name, py::handle array, Elements elements) {
  if (!is_foreign_array(array)) {
    refuse_traced(name, array);
    throw py::type_error("`" + name + "` must be an array of NumPy, PyTorch, CuPy, JAX or another package that has " +
                         "DLPack or the CUDA array interface. Received: type=" + type_name(array));
  }
  ForeignArray foreign = read_foreign_array(name, array, elements);
  tensor_ = foreign.tensor;
  shape_ = std::move(foreign.shape);
  strides_ = std::move(foreign.strides);
  tensor_.ndim = static_cast<int32_t>(shape_.size());
  tensor_.shape = shape_.data();
  tensor_.strides = strides_.empty() ? nullptr : strides_.data();
  memory_ = std::move(foreign.owner);
}

int64_t ArrayView::size() const {
  int64_t size = 1;
  for (int32_t i = 0; i < tensor_.ndim; ++i) size *= tensor_.shape[i];
  return size;
}

ArrayView ArrayView::codes(const Name& name, py::handle array, bool is_signed) {
  ArrayView view;
  view.view_foreign(name, array, Elements::kCodes);
  view.tensor_.dtype = is_signed ? FNN_SIGNED_CODES : FNN_UNSIGNED_CODES;
  return view;
}

ArrayView ArrayView::optional(const Name& name, py::handle array) {
  return array.is_none() ? ArrayView() : ArrayView(name, array);
}

ArrayView ArrayView::readable(const Name& name, py::handle array) {
  const bool copied = is_array(array) && !is_c_contiguous(array) && !strides_are_of_elements(array);
  return {name, copied ? py::object(array.attr("copy")("K")) : py::reinterpret_borrow<py::object>(array)};
}

ArrayView ArrayView::vector(const Name& name, py::handle array) {
  ArrayView view = readable(name, array);
  if (c_contiguous(view.tensor_)) return view;
  if (is_array(array)) return {name, array.attr("copy")("C")};
  if (is_torch_tensor(array)) return {name, contiguous_copy(array)};
  return view;
}

ArrayView ArrayView::optional_vector(const Name& name, py::handle array) {
  return array.is_none() ? ArrayView() : vector(name, array);
}

ArrayView ArrayView::dense(const Name& name, py::handle array) {
  ArrayView view = readable(name, array);
  if (fusednn::dense(view.tensor_)) return view;
  if (is_array(array)) return {name, array.attr("copy")("K")};
  if (is_torch_tensor(array)) return {name, dense_copy(array)};
  return view;
}

ArrayView ArrayView::laid_out_as(const ArrayView& model) && {
  const bool fits = !same_shape(tensor_, model.tensor_) || same_layout(tensor_, model.tensor_);
  // A model with gaps is refused by core/, by name.
  if (fits || !fusednn::dense(model.tensor_)) return std::move(*this);
  if (is_array(owner_) && is_array(model.owner_)) return {name_, numpy_copy_like(owner_, model.owner_)};
  if (is_torch_tensor(owner_)) return {name_, copy_laid_out_as(owner_, model.tensor_)};
  return std::move(*this);
}

template <class ReadItem>
void ArrayList::read(const char* name, py::handle sequence, const ArrayList* model, const ReadItem& read_item) {
  // An array is a sequence too, of its rows: passing one where a list is due is a mistake.
  const auto list =
      is_array(sequence) ? py::object() : py::reinterpret_steal<py::object>(PySequence_Tuple(sequence.ptr()));
  if (!list) {
    PyErr_Clear();
    throw py::type_error(std::string("`") + name + "` must be a list of arrays. Received: type=" + type_name(sequence));
  }
  const auto count = static_cast<size_t>(PyTuple_GET_SIZE(list.ptr()));
  if (model != nullptr && count != model->views_.size()) {
    throw py::value_error(std::string("`") + name + "` must hold one array per parameter, " +
                          std::to_string(model->views_.size()) + ". Received: " + std::to_string(count) + " arrays");
  }
  views_.reserve(count);
  tensors_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const py::handle item = PyTuple_GET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i));
    const ArrayView& view = views_.emplace_back(read_item(Name(name, static_cast<int64_t>(i)), item, i));
    tensors_.push_back(*view.tensor());
    copied_ = copied_ || !view.array().is(item);
  }
  present_ = true;
}

ArrayList::ArrayList(const char* name, py::handle sequence, Read read_array) {
  read(name, sequence, nullptr, [&](const Name& at, py::handle item, size_t) { return read_array(at, item); });
}

ArrayList::ArrayList(const char* name, py::handle sequence, const ArrayList& model, bool laid_out_alike) {
  if (sequence.is_none()) return;
  read(name, sequence, &model, [&](const Name& at, py::handle item, size_t i) {
    return laid_out_alike ? ArrayView::readable(at, item).laid_out_as(model.views_[i]) : ArrayView(at, item);
  });
}

int64_t ArrayList::elements() const {
  int64_t total = 0;
  for (const ArrayView& view : views_) total += view.size();
  return total;
}

void restore_thread(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    // The interpreter is shutting down and ends daemon threads by unwinding their stacks. The views on this one hold
    // references, which must not be dropped without the GIL: stay here until the process ends.
    for (;;) pause();
  }
}

namespace {

[[noreturn]] void raise(fnn_status status, const char* message) {
  switch (status) {
    case FNN_ERROR_TYPE:        throw py::type_error(message);
    case FNN_ERROR_VALUE:       throw py::value_error(message);
    case FNN_ERROR_UNSUPPORTED: PyErr_SetString(PyExc_NotImplementedError, message); throw py::error_already_set();
    case FNN_ERROR_DEVICE:      PyErr_SetString(PyExc_RuntimeError, message); throw py::error_already_set();
    case FNN_ERROR_MEMORY:      throw_memory_error();
    default:                    throw std::runtime_error(message);
  }
}

}  // namespace

void check(fnn_status status) {
  if (status != FNN_SUCCESS) raise(status, fnn_last_error());
}

void check_into(const char* output, fnn_status status) {
  const std::string in_c = std::string("`") + output + "`", in_python = "`out`";
  std::string message = fnn_last_error();
  for (size_t at = 0; (at = message.find(in_c, at)) != std::string::npos; at += in_python.size()) {
    message.replace(at, in_c.size(), in_python);
  }
  raise(status, message.c_str());
}

}  // namespace fusednn
