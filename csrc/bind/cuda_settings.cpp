#include "bind/cuda_settings.h"

#include <cstdint>
#include <string>
#include <utility>

#include "bind/array_view.h"

namespace fusednn {

namespace py = pybind11;

namespace {

// The context variable: None, or a tuple of spare multiprocessors and None or a function that takes an array's type and
// returns None or the pair of functions that allocate and release workspaces.
PyObject* variable = nullptr;

// As CUDA's own allocators; kernels read and write workspaces 16 bytes at a time.
constexpr uintptr_t kAlignment = 256;

// The allocator of a thread's calls. What it holds goes with the next one; at the thread's end Python may be gone.
struct Lent {
  PyObject* allocate = nullptr;
  PyObject* release = nullptr;
  PyObject* error = nullptr;  // the exception of the allocation that failed
};
thread_local Lent lent;

void* allocate(void* of_thread, size_t bytes, int32_t device_id, void* stream) {
  const py::gil_scoped_acquire gil;
  auto& from = *static_cast<Lent*>(of_thread);
  try {
    const auto function = py::reinterpret_borrow<py::function>(from.allocate);
    const auto number = reinterpret_cast<uintptr_t>(stream);
    const py::int_ address(function(bytes, device_id, number));
    void* const memory = PyLong_AsVoidPtr(address.ptr());
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (reinterpret_cast<uintptr_t>(memory) % kAlignment == 0) return memory;
    py::reinterpret_borrow<py::function>(from.release)(address, bytes, device_id, number);
    py::set_error(PyExc_ValueError, ("`allocate` must return a multiple of " + std::to_string(kAlignment) +
                                     ". Received: " + std::to_string(reinterpret_cast<uintptr_t>(memory)))
                                        .c_str());
    throw py::error_already_set();
  } catch (py::error_already_set& error) {
    Py_XSETREF(from.error, error.value().inc_ref().ptr());
    return nullptr;
  }
}

void release(void* of_thread, void* memory, size_t bytes, int32_t device_id, void* stream) {
  const py::gil_scoped_acquire gil;
  const auto& from = *static_cast<Lent*>(of_thread);
  try {
    const auto function = py::reinterpret_borrow<py::function>(from.release);
    function(reinterpret_cast<uintptr_t>(memory), bytes, device_id, reinterpret_cast<uintptr_t>(stream));
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("the release of a workspace");
  }
}

}  // namespace

void add_chosen_settings(py::handle array, fnn_cuda_settings& settings) {
  PyObject* found = nullptr;
  if (PyContextVar_Get(variable, nullptr, &found) != 0) throw py::error_already_set();
  const auto chosen = py::reinterpret_steal<py::object>(found);
  if (chosen.is_none()) return;
  const auto [spare, allocator_of] = chosen.cast<std::pair<int32_t, py::object>>();
  settings.spare_multiprocessors = spare;
  if (allocator_of.is_none()) return;
  const py::object pair = allocator_of(py::type::of(array));
  if (pair.is_none()) return;
  auto [take, give_back] = pair.cast<std::pair<py::object, py::object>>();
  Py_XSETREF(lent.allocate, take.release().ptr());
  Py_XSETREF(lent.release, give_back.release().ptr());
  settings.workspace = {allocate, release, &lent};
}

void throw_memory_error() {
  PyObject* const cause = std::exchange(lent.error, nullptr);
  PyErr_SetString(PyExc_MemoryError, fnn_last_error());
  if (cause == nullptr) throw py::error_already_set();
  py::error_already_set error;
  PyException_SetCause(error.value().ptr(), cause);  // takes the reference over
  throw error;
}

void register_cuda_settings(py::module_& m) {
  variable = PyContextVar_New("fusednn_cuda_settings", Py_None);
  if (variable == nullptr) throw py::error_already_set();
  m.def("cuda_settings_variable", [] { return py::reinterpret_borrow<py::object>(variable); });
  m.def("cuda_release_memory", [] {
    int64_t bytes = 0;
    fnn_status status = FNN_SUCCESS;
    {
      const py::gil_scoped_release unlocked;  // it waits for the devices
      status = fnn_cuda_release_memory(&bytes);
    }
    check(status);
    return bytes;
  });
}

}  // namespace fusednn
