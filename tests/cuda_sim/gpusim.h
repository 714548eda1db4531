// Runs CUDA kernels on the CPU: what csrc/cuda/launch.h includes in place of cuda_runtime.h when the compiler is not
// nvcc. Kernels and drivers are compiled unmodified, `g++ -x c++`.
//
// Every thread of a launch is a fiber (fiber.h) that runs until it waits at a barrier, a warp's collective or in a
// spinning loop; the schedule (schedule.cpp) decides who goes on. So an error that depends on the order of threads is
// looked for by running a kernel in many orders, each reproducible from its seed:
//   fifo     threads in order of their index, one step each
//   reverse  the other way round
//   random   any ready thread
//   starve   warps have random priorities and the highest runs ahead as far as it can; some seeds change priorities on
//            the way. Finds most missing barriers, as one warp is then far behind another.
// Shared memory and fresh allocations hold NaNs, with guard zones around them. Built with -fsanitize=thread every access
// is also checked against what barriers and atomics order, whatever the schedule.
//
// What kernels must do for this: dynamic shared memory through shared_memory(), elements of arrays through launch.h's
// functions or __ldcs and __stcs, spin_pause() in loops that wait, inline PTX only in launch.h, integer atomics only,
// shuffles of the types that CUDA shuffles.
#pragma once

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <source_location>
#include <type_traits>

#include "cuda_types.h"
#include "runtime.h"
#include "stream_work.h"
#include "traffic.h"

#define GPUSIM_INTERNAL __attribute__((visibility("hidden")))

namespace gpusim {

// Where a kernel calls what is simulated: reports name it, and threads that meet must come from the same place.
using Site = std::source_location;

struct Coordinates {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
// Of the thread that runs.
GPUSIM_INTERNAL extern Coordinates here;

GPUSIM_INTERNAL char* shared_memory();
GPUSIM_INTERNAL bool is_shared(const void* p);

// ---- Waiting (collectives.cpp) ----
struct Votes {
  int count, threads;
};
GPUSIM_INTERNAL Votes block_barrier(bool vote, const char* name, Site site);

enum class Collective { sync, vote, shuffle };
// Returns the value that the lane `source` brought; of a vote, the ballot.
GPUSIM_INTERNAL uint64_t warp_collective(Collective kind, uint32_t mask, uint64_t value, int source, const char* name,
                                         Site site);
GPUSIM_INTERNAL int lane();

GPUSIM_INTERNAL void spin_pause(Site site = Site::current());
// Lets the schedule put another thread before what follows: before each atomic operation.
GPUSIM_INTERNAL void may_switch(Site site);
// After a counter has changed that others may wait for.
GPUSIM_INTERNAL void counter_changed();
// Reports a thread's error and ends the launch.
[[noreturn]] GPUSIM_INTERNAL void fail(const char* message, Site site = Site::current());
// A full fence, in a form that the thread sanitizer understands.
GPUSIM_INTERNAL void fence();

inline void assume(bool holds, const char* what, Site site = Site::current()) {
  if (!holds) fail(what, site);
}

inline uint32_t load_acquire(const uint32_t* p, Site site = Site::current()) {
  may_switch(site);
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
inline uint32_t add_acquire_release(uint32_t* p, uint32_t value, Site site = Site::current()) {
  may_switch(site);
  const uint32_t old = __atomic_fetch_add(p, value, __ATOMIC_ACQ_REL);
  counter_changed();
  return old;
}

// The types that CUDA shuffles without conversion.
template <class T>
concept Shuffled = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, long> ||
                   std::is_same_v<T, unsigned long> || std::is_same_v<T, long long> ||
                   std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <Shuffled T>
T shuffle(uint32_t mask, T value, int source, const char* name, Site site) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = warp_collective(Collective::shuffle, mask, bits, source, name, site);
  memcpy(&value, &bits, sizeof value);
  return value;
}

// ---- Launching (launch.cpp) ----
struct Kernel {
  const void* address;
  void (*run)(const void* body);
  const void* body;
};
GPUSIM_INTERNAL cudaError_t launch(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes);
// Whether such a launch may be: its limits, and faults.
GPUSIM_INTERNAL cudaError_t check_launch(const void* address, dim3 grid, dim3 block, size_t shared_bytes,
                                         bool cooperative);

// body() is one thread's call of the kernel at `address`, whose symbol names it in reports. It holds the arguments.
template <class Body>
cudaError_t launch(const void* address, dim3 grid, dim3 block, size_t shared_bytes, bool cooperative,
                   cudaStream_t stream, const Body& body) {
  static_cast<void>(stream);
  const cudaError_t e = check_launch(address, grid, block, shared_bytes, cooperative);
  if (e != cudaSuccess) return e;
  const auto run = [=](const Body& b) {
    const Kernel kernel{address, [](const void* p) { (*static_cast<const Body*>(p))(); }, &b};
    return launch(kernel, grid, block, shared_bytes);
  };
  if (is_queued()) return add([run, body] { return run(body); });
  return run(body);
}

}  // namespace gpusim

#include "device_functions.h"

#ifdef FNN_UNIT
// The kernels are compiled with -Wconversion, for their indices; the formulas may take integers for numbers.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "math/batch_norm.h"
#include "math/optimizer.h"
#pragma GCC diagnostic pop
#endif
