#include "bind/bound_function.h"

#include <memory>
#include <new>
#include <utility>

namespace fusednn {
namespace {

namespace py = pybind11;

using Work = std::function<void()>;

constexpr const char* kCapsule = "fusednn bound function";

PyObject* call(PyObject* capsule, PyObject* /*arguments*/) {
  try {
    (*static_cast<const Work*>(PyCapsule_GetPointer(capsule, kCapsule)))();
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  }
  return nullptr;
}

PyMethodDef definition = {"bound", &call, METH_NOARGS, "Do what it was made for."};

}  // namespace

py::object bound_function(Work work) {
  auto kept = std::make_unique<Work>(std::move(work));
  const py::capsule owner(kept.release(), kCapsule, [](PyObject* capsule) {
    delete static_cast<Work*>(PyCapsule_GetPointer(capsule, kCapsule));
  });
  return py::reinterpret_steal<py::object>(PyCFunction_New(&definition, owner.ptr()));
}

}  // namespace fusednn
