// The simulated device: what a launch consists of, and what tests choose.
#pragma once

#include <stdint.h>

#include <mutex>
#include <string>
#include <vector>

#include "fiber.h"
#include "gpusim.h"
#include "sanitizers.h"

namespace gpusim {

enum class Order { fifo, reverse, random, starve };

struct Settings {
  Order order = Order::fifo;
  uint64_t seed = 1;
  // The device. Blocks of a grid beyond what is resident start as others end.
  int devices = 1;
  int multiprocessors = 4;
  int blocks_per_multiprocessor = 2;
  int capability = 90;
  int driver = CUDART_VERSION;
  bool cooperative = true;
  size_t shared_per_block = 227 * 1024;
  size_t shared_per_multiprocessor = 228 * 1024;
  size_t l2_bytes = 4 << 20;
  bool deferred = false;  // stream_work.h
};
inline Settings settings;

// What happened since the last reset.
struct Counts {
  int64_t launches, switches, allocations, synchronisations, copies;
};
inline Counts counts;

// Countdowns: 1 makes the next allocation or launch fail; 0 none.
struct Faults {
  int64_t allocation, launch;
};
inline Faults faults;

inline std::mutex device_mutex;
inline std::string report;  // of the last kernel that failed
inline cudaError_t last_error = cudaSuccess;
inline cudaError_t noted(cudaError_t e) {
  if (e != cudaSuccess) last_error = e;
  return e;
}

// Checks every allocation's guard zones; an empty string where all are whole (memory.cpp).
std::string broken_guards();

struct Block;
struct Warp;

// What every switch needs fits in a cache line.
struct alignas(64) Thread {
  uint3 index;
  int lane;
  Block* block;
  Warp* warp;
  Fiber* fiber;          // null: has not begun
  const char* waits_in;  // its last wait: the function, and from where it was called
  Site site;
};

// What the lanes of one mask wait for; kept at the mask's lowest lane.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  Collective kind = Collective::sync;
  Site site;
  unsigned generation = 0;
  char order[2];  // addresses for the thread sanitizer, of even and odd generations
};

struct Warp {
  Block* block;
  Thread* threads;
  int rank;                          // in the schedule
  uint32_t ready, spinning;          // bit `lane ^ flip`
  uint32_t at_barrier;               // the same
  uint32_t exists, exited, meeting;  // bit `lane`; meeting: waits for other lanes
  uint64_t value[32];                // brought to a collective, then its result
  int source[32];
  Meeting meetings[32];
};

struct Block {
  uint3 index;
  int slot;
  int live;
  Warp* warps;
  Thread* threads;
  char* shared;
  int arrived, votes, result, result_threads;
  Site site;
  const char* barrier_name;
  unsigned generation;
  char order[2];
};

inline Thread* current = nullptr;

// ---- The schedule, for what waits (scheduler.cpp) ----

// The current thread waits: another goes on. Returns when it has been made ready and is its turn.
void wait(const char* what, Site site);
// Makes those lanes (natural bits) ready.
void wake(Warp& warp, uint32_t lanes);
void wake_barrier(Block& block);
// The current thread stays ready; after waking others, who may go first.
void let_others_go();
void note_at_barrier(const Thread& thread);

std::string place(const Thread& thread);
std::string place(const Site& site);
[[noreturn]] void fail_launch(const std::string& message);

// Lets the block's barrier go if all its live threads are there (collectives.cpp).
void open_barrier_if_full(Block& block);
// A thread has ended: whoever still waits for it in its warp never meets it.
void leave_warp(Thread& thread);

}  // namespace gpusim
