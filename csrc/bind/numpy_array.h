// NumPy's arrays and dtypes by their fields: no call of NumPy's, no allocation.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>

namespace fusednn {

namespace py = pybind11;

using ArrayFields = py::detail::PyArray_Proxy;

// Finds NumPy's type and dtypes. To be called once, before anything below.
void find_numpy();

extern PyTypeObject* array_type;

inline bool is_array(py::handle object) { return PyObject_TypeCheck(object.ptr(), array_type) != 0; }

inline const ArrayFields& fields(py::handle array) { return *py::detail::array_proxy(array.ptr()); }

inline bool is_c_contiguous(const ArrayFields& a) {
  return (a.flags & py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_) != 0;
}
inline bool is_c_contiguous(py::handle array) { return is_c_contiguous(fields(array)); }

inline bool is_writable(const ArrayFields& a) { return (a.flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0; }

// For messages.
std::string type_name(py::handle object);

// Dtypes are objects, and those of this machine's byte order exist once: most arrays are known by theirs. What is
// remembered lives for ever, so that no other dtype ever has its address.
constexpr int32_t kUnknown = -1;
int32_t known_dtype(const PyObject* descr);
void remember_dtype(py::handle descr, int32_t dtype);

}  // namespace fusednn
