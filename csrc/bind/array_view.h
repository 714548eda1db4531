// From a Python array to an fnn_tensor, without copying what is dense in memory. Only arrays of NumPy and PyTorch are ever
// copied.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "bind/foreign_array.h"
#include "core/name.h"
#include "fusednn/fusednn.h"

namespace fusednn {

namespace py = pybind11;

// A view of one array. It holds a reference to what it views and must outlive the call.
class ArrayView {
 public:
  ArrayView() = default;  // of None
  // The tensor points into the view: where it moves, its vectors' memory stays.
  ArrayView(ArrayView&&) = default;
  ArrayView& operator=(ArrayView&&) = default;
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView() = default;
  ArrayView(const Name& name, py::handle array);
  static ArrayView as_it_is(const Name& name, py::handle array) { return {name, array}; }

  // Bytes that are codes, of another package than NumPy.
  static ArrayView codes(const Name& name, py::handle array, bool is_signed);
  // None is allowed: tensor() is then null.
  static ArrayView optional(const Name& name, py::handle array);
  // Copied where it is not contiguous.
  static ArrayView vector(const Name& name, py::handle array);
  static ArrayView optional_vector(const Name& name, py::handle array);
  // Copied where its memory is not dense.
  static ArrayView dense(const Name& name, py::handle array);
  // An input of any strides.
  static ArrayView readable(const Name& name, py::handle array);
  // Copied where its memory is not laid out as that of `model`, an array of the same shape.
  ArrayView laid_out_as(const ArrayView& model) &&;

  const fnn_tensor* tensor() const { return present_ ? &tensor_ : nullptr; }
  py::handle array() const { return owner_; }
  int64_t size() const;

 private:
  void view_foreign(const Name& name, py::handle array, Elements elements);
  void view_capsule(const Name& name, py::handle array, Elements elements);

  bool present_ = false;
  Name name_{};
  fnn_tensor tensor_{};
  py::object owner_;
  // Of an array that came through DLPack's capsule or the CUDA array interface: what keeps its memory, and its shape.
  py::object memory_;
  std::vector<int64_t> shape_;
  std::vector<int64_t> strides_;  // in elements; empty where the array is in C order, or has its own
};

// Views of a sequence of arrays, kept side by side for the C API.
class ArrayList {
 public:
  using Read = ArrayView (*)(const Name& name, py::handle array);

  // None is allowed where there is a `model`: data() is then null. A list with a model has its length.
  ArrayList(const char* name, py::handle sequence, Read read);
  ArrayList(const char* name, py::handle sequence, const ArrayList& model, bool laid_out_alike);

  const fnn_tensor* data() const { return present_ ? tensors_.data() : nullptr; }
  int64_t size() const { return static_cast<int64_t>(tensors_.size()); }
  int64_t elements() const;
  // Whether some views are of copies.
  bool copied() const { return copied_; }

 private:
  template <class ReadItem>
  void read(const char* name, py::handle sequence, const ArrayList* model, const ReadItem& read_item);

  bool present_ = false;
  bool copied_ = false;
  std::vector<ArrayView> views_;
  std::vector<fnn_tensor> tensors_;
};

// Throws the Python exception for a failed call.
void check(fnn_status status);

// Throws what failed; the message says `out` for the argument that C calls `output`.
[[noreturn]] void check_into(const char* output, fnn_status status);

// Takes the GIL again after PyEval_SaveThread. Never returns where the interpreter has ended meanwhile.
void restore_thread(PyThreadState* state);

// Runs a call of the C API without the GIL and throws what it reports.
template <class Call>
void run(const Call& call) {
  PyThreadState* state = PyEval_SaveThread();
  const fnn_status status = call();
  restore_thread(state);
  check(status);
}

// The same for a call on so many elements. Releasing the GIL and taking it again costs as much as some hundred: for a
// few microseconds of work it is kept.
constexpr int64_t kWorthReleasing = 1 << 14;
template <class Call>
void run(int64_t elements, const Call& call) {
  if (elements < kWorthReleasing) return check(call());
  run(call);
}

// The same for a call whose main output is `output` in C and `out` in Python.
template <class Call>
void run_into(const char* output, int64_t elements, const Call& call) {
  fnn_status status = FNN_SUCCESS;
  run(elements, [&] {
    status = call();
    return FNN_SUCCESS;
  });
  if (status != FNN_SUCCESS) check_into(output, status);
}

}  // namespace fusednn
