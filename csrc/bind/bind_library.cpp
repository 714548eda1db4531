#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/torch_tensor.h"

namespace fusednn {

void register_library(py::module_& m) {
  // A bad setting in the environment is told at import, not in the middle of a training run.
  if (fnn_initialize() != FNN_SUCCESS) throw py::import_error(fnn_last_error());

  m.def(
      "set_num_threads",
      [](py::handle n) {
        const int64_t count = integer("n", n);
        const bool fits = count >= INT32_MIN && count <= INT32_MAX;
        if (!fits) throw py::value_error("`n` must be from 1 to 4096. Received: n=" + std::to_string(count));
        check(fnn_set_num_threads(static_cast<int32_t>(count)));
      },
      py::arg("n"));
  m.def("get_num_threads", &fnn_get_num_threads);
  m.def("num_threads_source", [] { return std::string(fnn_num_threads_source()); });
  // Addresses of C functions, for ctypes to hand on: what runs between two matrix products cannot be Python.
  m.def("run_jobs_address", [] { return reinterpret_cast<uintptr_t>(&fnn_run_jobs); });
  m.def(
      "follow_num_threads",
      [](uintptr_t follower) {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what ctypes has.
        check(fnn_follow_num_threads(reinterpret_cast<void (*)(int)>(follower)));
      },
      py::arg("follower"));
  m.def("instruction_set", [] { return std::string(fnn_instruction_set()); });
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (int32_t i = 0; fnn_available_instruction_set(i) != nullptr; ++i) {
      names.emplace_back(fnn_available_instruction_set(i));
    }
    return names;
  });
  m.def("version", [] { return std::string(fnn_version()); });
  m.def("compiler", [] { return std::string(fnn_compiler()); });
  m.def("cuda_build", [] { return std::string(fnn_cuda_build()); });
  // For tests of how tensors of older PyTorch releases are read.
  m.def("use_exchange_api", &use_exchange_api, py::arg("use"));
  m.def("cuda_reason", [] { return std::string(fnn_cuda_reason()); });
  m.def("cuda_versions", [] {
    int32_t driver = 0, runtime = 0;
    check(fnn_cuda_versions(&driver, &runtime));
    return py::make_tuple(driver, runtime);
  });
  m.def("cuda_device_count", [] {
    int32_t count = 0;
    check(fnn_cuda_device_count(&count));
    return count;
  });
  m.def(
      "cuda_describe",
      [](int32_t device_id) {
        char name[256];
        int32_t capability = 0, multiprocessors = 0;
        int64_t memory = 0;
        check(fnn_cuda_describe(device_id, name, sizeof name, &capability, &multiprocessors, &memory));
        return py::make_tuple(name, capability, multiprocessors, memory);
      },
      py::arg("device_id"));
}

}  // namespace fusednn
