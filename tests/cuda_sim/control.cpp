// What tests choose and ask, as C functions (simulator.py).
#include <algorithm>
#include <iterator>

#include "sanitizers.h"
#include "state.h"
#include "stream_work.h"

#define GPUSIM_EXPORT extern "C" __attribute__((visibility("default")))

namespace gpusim {
int64_t live_allocations();
int64_t stacks();
}  // namespace gpusim

using namespace gpusim;

// Back to the defaults, no faults, nothing counted.
GPUSIM_EXPORT void gpusim_reset() {
  clear_work();
  const std::lock_guard<std::mutex> lock(device_mutex);
  settings = {};
  counts = {};
  faults = {};
  launch_devices.clear();
  current_device = 0;
  waits.clear();
  report.clear();
  last_error = cudaSuccess;
}

// order: 0 fifo, 1 reverse, 2 random, 3 starve.
GPUSIM_EXPORT void gpusim_schedule(int order, uint64_t seed) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  settings.order = static_cast<Order>(order);
  settings.seed = seed;
}

// Sets one property of the device; returns whether there is one of this name.
GPUSIM_EXPORT bool gpusim_set(const char* name, int64_t value) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  const std::string n = name;
  if (n == "devices") {
    settings.devices = static_cast<int>(value);
  } else if (n == "memory_of") {
    settings.memory_of = static_cast<int>(value);
  } else if (n == "managed") {
    settings.managed = value != 0;
  } else if (n == "multiprocessors") {
    settings.multiprocessors = static_cast<int>(value);
  } else if (n == "blocks_per_multiprocessor") {
    settings.blocks_per_multiprocessor = static_cast<int>(value);
  } else if (n == "capability") {
    settings.capability = static_cast<int>(value);
  } else if (n == "driver") {
    settings.driver = static_cast<int>(value);
  } else if (n == "cooperative") {
    settings.cooperative = value != 0;
  } else if (n == "shared_per_block") {
    settings.shared_per_block = static_cast<size_t>(value);
  } else if (n == "shared_per_multiprocessor") {
    settings.shared_per_multiprocessor = static_cast<size_t>(value);
  } else if (n == "l2_bytes") {
    settings.l2_bytes = static_cast<size_t>(value);
  } else if (n == "deferred") {
    settings.deferred = value != 0;
  } else if (n == "outside_capture") {
    settings.outside_capture = reinterpret_cast<const void*>(value);
  } else if (n == "fail_allocation") {
    faults.allocation = value;
  } else if (n == "fail_launch") {
    faults.launch = value;
  } else if (n == "launch_error") {
    faults.launch_error = static_cast<cudaError_t>(value);
  } else {
    return false;
  }
  return true;
}

// launches, switches, allocations, synchronisations, copies since the last reset; allocations that live, stacks that
// were ever mapped.
GPUSIM_EXPORT void gpusim_counts(int64_t* seven) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  const int64_t values[] = {
      counts.launches,    counts.switches, counts.allocations, counts.synchronisations, counts.copies,
      live_allocations(), stacks()};
  std::copy(std::begin(values), std::end(values), seven);
}

// The calling thread's current device.
GPUSIM_EXPORT int gpusim_current_device() { return current_device; }
// How many kernels were launched; of the first `room` the devices that were current then.
GPUSIM_EXPORT int64_t gpusim_launch_devices(int* devices, int64_t room) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  std::copy_n(launch_devices.begin(), std::min(room, static_cast<int64_t>(launch_devices.size())), devices);
  return static_cast<int64_t>(launch_devices.size());
}

// How often a stream was to wait for another; of the first `room` waits the two handles.
GPUSIM_EXPORT int64_t gpusim_waits(uintptr_t* pairs, int64_t room) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  for (size_t i = 0; i < waits.size() && static_cast<int64_t>(i) < room; ++i) {
    pairs[2 * i] = reinterpret_cast<uintptr_t>(waits[i].stream);
    pairs[2 * i + 1] = reinterpret_cast<uintptr_t>(waits[i].other);
  }
  return static_cast<int64_t>(waits.size());
}

// What went wrong in the last kernel that failed; empty where none did.
GPUSIM_EXPORT const char* gpusim_report() { return report.c_str(); }

// "address" or "thread" where the library was built with that sanitizer, else "".
GPUSIM_EXPORT const char* gpusim_sanitizer() {
  return kAddressSanitizer ? "address" : kThreadSanitizer ? "thread" : "";
}

// The device's memory.
GPUSIM_EXPORT void* gpusim_allocate(size_t bytes) {
  void* p = nullptr;
  return cudaMalloc(&p, bytes) == cudaSuccess ? p : nullptr;
}
GPUSIM_EXPORT int gpusim_free(void* p) { return cudaFree(p); }
GPUSIM_EXPORT int gpusim_write(void* to, const void* from, size_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice);
}
GPUSIM_EXPORT int gpusim_read(void* to, const void* from, size_t bytes) {
  return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost);
}

// A graph: what is given between the first two is recorded, not done; each replay does it, and the status is the first
// that is no success.
GPUSIM_EXPORT void gpusim_begin_capture() { begin_capture(); }
GPUSIM_EXPORT void gpusim_end_capture() { end_capture(); }
GPUSIM_EXPORT int gpusim_replay() { return replay(); }
GPUSIM_EXPORT int64_t gpusim_keep_graph() { return keep_graph(); }
GPUSIM_EXPORT int gpusim_launch_kept(int64_t number) { return launch_kept(number); }
GPUSIM_EXPORT void gpusim_destroy_kept(int64_t number) { destroy_kept(number); }
// Gives function(argument) to the stream, in order with its other work: what another library's kernel would do.
GPUSIM_EXPORT void gpusim_give(void (*function)(int64_t), int64_t argument) {
  if (!is_queued()) return function(argument);
  add([function, argument] {
    function(argument);
    return cudaSuccess;
  });
}
GPUSIM_EXPORT void* gpusim_new_stream() {
  cudaStream_t stream = nullptr;
  return cudaStreamCreate(&stream) == cudaSuccess ? stream : nullptr;
}
GPUSIM_EXPORT int gpusim_wait() { return cudaDeviceSynchronize(); }
