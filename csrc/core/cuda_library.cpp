#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "core/device.h"
#include "core/status.h"

namespace fusednn {
namespace {

constexpr const char* kFile = "libfusednn_cuda.so";
constexpr const char* kVariable = "FUSEDNN_CUDA_LIBRARY";

// The path that the environment names, or the file beside this library.
std::string library_path() {
  const char* named = std::getenv(kVariable);
  if (named != nullptr && *named != '\0') return named;
  Dl_info here{};
  // NOLINTNEXTLINE(bugprone-casting-through-void): dladdr takes any address of this library.
  if (dladdr(reinterpret_cast<const void*>(&fnn_version), &here) == 0 || here.dli_fname == nullptr) return kFile;
  const std::string own = here.dli_fname;
  const size_t slash = own.rfind('/');
  return slash == std::string::npos ? kFile : own.substr(0, slash + 1) + kFile;
}

struct Loaded {
  const CudaBackend* backend = nullptr;
  std::string error;
};

Loaded load() {
  const char* named = std::getenv(kVariable);
  const bool is_named = named != nullptr && *named != '\0';
  if (!is_named && std::string(FNN_CUDA_BUILD) == "OFF") {
    return {nullptr, std::string("this build of fusednn has no CUDA kernels: ") + FNN_CUDA_REASON};
  }
  const std::string path = library_path();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {nullptr, std::string("the CUDA kernels could not be loaded: ") + dlerror()};
  const auto entry = reinterpret_cast<CudaBackendEntry>(dlsym(library, "fnn_cuda_backend"));
  const CudaBackend* backend = entry == nullptr ? nullptr : entry();
  if (backend == nullptr || backend->version != kCudaBackendVersion) {
    return {nullptr, "the CUDA kernels must be of the same version of fusednn as the rest. Received: " + path};
  }
  return {backend, {}};
}

// Set once it is loaded, for what must not load it.
std::atomic<const CudaBackend*> in_use{nullptr};

// The library, whether or not there is a GPU for it.
const CudaBackend& cuda_library() {
  static const Loaded loaded = load();
  in_use.store(loaded.backend, std::memory_order_release);
  if (loaded.backend == nullptr) throw Failure{FNN_ERROR_DEVICE, loaded.error};
  return *loaded.backend;
}

Loaded with_device() {
  const CudaBackend& backend = cuda_library();
  int32_t count = 0;
  const CudaOutcome outcome = backend.device_count(&count);
  if (outcome.status != FNN_SUCCESS) return {nullptr, outcome.message};
  if (count == 0) return {nullptr, "this machine has no NVIDIA GPU that CUDA can see"};
  return {&backend, {}};
}

thread_local fnn_cuda_settings current{};

}  // namespace

void check_cuda_settings(const fnn_cuda_settings& settings) {
  require_struct_size("settings", settings.size, sizeof settings);
  if ((settings.workspace.allocate == nullptr) != (settings.workspace.release == nullptr)) {
    fail_value(std::string("`workspace` must have both functions or neither. Received: only `") +
               (settings.workspace.allocate != nullptr ? "allocate`" : "release`"));
  }
  if (settings.spare_multiprocessors < 0) {
    fail_value("`spare_multiprocessors` must not be negative. Received: spare_multiprocessors=" +
               std::to_string(settings.spare_multiprocessors));
  }
}

void set_cuda_settings(const fnn_cuda_settings& settings) { current = settings; }

const CudaBackend& cuda_backend() {
  static const Loaded usable = with_device();
  if (usable.backend == nullptr) throw Failure{FNN_ERROR_DEVICE, usable.error};
  return *usable.backend;
}

CudaPlace cuda_place(int32_t device_id) {
  return {device_id, current.stream, current.workspace, current.spare_multiprocessors};
}

void require_done(const CudaOutcome& outcome) {
  if (outcome.status != FNN_SUCCESS) throw Failure{outcome.status, outcome.message};
}

}  // namespace fusednn

using namespace fusednn;

fnn_status fnn_cuda_set(const fnn_cuda_settings* given) {
  return guarded([&] {
    if (given != nullptr) check_cuda_settings(*given);
    set_cuda_settings(given == nullptr ? fnn_cuda_settings{} : *given);
  });
}

fnn_status fnn_cuda_release_memory(int64_t* bytes) {
  return guarded([&] {
    int64_t released = 0;
    const CudaBackend* const backend = in_use.load(std::memory_order_acquire);
    if (backend != nullptr) require_done(backend->release_memory(&released));
    if (bytes != nullptr) *bytes = released;
  });
}

fnn_status fnn_cuda_device_count(int32_t* count) {
  return guarded([&] {
    require_pointer("count", count);
    require_done(cuda_backend().device_count(count));
  });
}

fnn_status fnn_cuda_device_of(const void* pointer, int32_t* device_id) {
  return guarded([&] {
    require_pointer("device_id", device_id);
    require_done(cuda_backend().device_of(pointer, device_id));
  });
}

fnn_status fnn_cuda_wait(int32_t device_id, void* stream, void* other) {
  return guarded([&] { require_done(cuda_backend().wait({device_id, stream, {}, 0}, other)); });
}

fnn_status fnn_cuda_versions(int32_t* driver, int32_t* runtime) {
  return guarded([&] {
    require_pointer("driver", driver);
    require_pointer("runtime", runtime);
    require_done(cuda_library().versions(driver, runtime));
  });
}

fnn_status fnn_cuda_describe(int32_t device_id, char* name, size_t name_size, int32_t* capability,
                             int32_t* multiprocessors, int64_t* memory) {
  return guarded([&] {
    if (name_size > 0) require_pointer("name", name);
    require_pointer("capability", capability);
    require_pointer("multiprocessors", multiprocessors);
    require_pointer("memory", memory);
    CudaDevice device{};
    require_done(cuda_backend().describe(device_id, &device));
    if (name_size > 0) {
      const std::string text = std::string(device.name).substr(0, name_size - 1);
      text.copy(name, text.size());
      name[text.size()] = '\0';
    }
    *capability = device.capability;
    *multiprocessors = device.multiprocessors;
    *memory = device.memory;
  });
}
