#include "bind/numpy_array.h"

#include <iterator>

#include "fusednn/fusednn.h"

namespace fusednn {
namespace {

struct KnownDtype {
  const PyObject* descr;
  int32_t dtype;
};
KnownDtype known[8];
size_t known_count = 0;

}  // namespace

PyTypeObject* array_type = nullptr;

void find_numpy() {
  array_type = py::detail::npy_api::get().PyArray_Type_;
  remember_dtype(py::dtype("float32"), FNN_FLOAT32);
  remember_dtype(py::dtype("float64"), FNN_FLOAT64);
  remember_dtype(py::dtype("float16"), FNN_FLOAT16);
}

std::string type_name(py::handle object) { return py::type::of(object).attr("__name__").cast<std::string>(); }

int32_t known_dtype(const PyObject* descr) {
  for (size_t i = 0; i < known_count; ++i) {
    if (known[i].descr == descr) return known[i].dtype;
  }
  return kUnknown;
}

void remember_dtype(py::handle descr, int32_t dtype) {
  if (known_count < std::size(known)) known[known_count++] = {descr.inc_ref().ptr(), dtype};
}

}  // namespace fusednn
