// The simulated device as tests choose it, and what happened there.
#pragma once

#include <stdint.h>

#include <mutex>
#include <string>
#include <vector>

#include "gpusim.h"

namespace gpusim {

enum class Order { fifo, reverse, random, starve };

struct Settings {
  Order order = Order::fifo;
  uint64_t seed = 1;
  // The device. Blocks of a grid beyond what is resident start as others end.
  int devices = 1;
  int memory_of = 0;     // the device that all memory is said to be of
  bool managed = false;  // whether all memory is said to be managed, and so the host's, too
  int multiprocessors = 4;
  int blocks_per_multiprocessor = 2;
  int capability = 90;
  int driver = CUDART_VERSION;
  bool cooperative = true;
  size_t shared_per_block = 227 * 1024;
  size_t shared_per_multiprocessor = 228 * 1024;
  size_t l2_bytes = 4 << 20;
  bool deferred = false;                  // stream_work.h
  const void* outside_capture = nullptr;  // the stream that no capture takes up; all others are captured at once
};
inline Settings settings;

// What happened since the last reset.
struct Counts {
  int64_t launches, switches, allocations, synchronisations, copies;
};
inline Counts counts;
inline std::vector<int> launch_devices;  // each launch's, since the last reset

// Of the thread.
inline thread_local int current_device = 0;
inline thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

// Countdowns: 1 makes the next allocation or launch fail; 0 none.
struct Faults {
  int64_t allocation, launch;
  cudaError_t launch_error = cudaErrorLaunchOutOfResources;  // of the launch that fails
};
inline Faults faults;

// Which stream was to wait for which, since the last reset.
struct Wait {
  const void* stream;
  const void* other;
};
inline std::vector<Wait> waits;

inline std::mutex device_mutex;
inline std::string report;  // of the last kernel that failed
inline cudaError_t last_error = cudaSuccess;
inline cudaError_t noted(cudaError_t e) {
  if (e != cudaSuccess) last_error = e;
  return e;
}

// Checks every allocation's guard zones; an empty string where all are whole (memory.cpp).
std::string broken_guards();

}  // namespace gpusim
