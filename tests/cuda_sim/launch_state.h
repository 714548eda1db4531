// What a launch consists of: threads in warps in blocks, and which of them may run.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "fiber.h"
#include "ready_set.h"
#include "sanitizers.h"
#include "state.h"

namespace gpusim {

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

// Everything that a launch needs; kept from launch to launch, so that only a larger one allocates.
struct Device {
  Kernel kernel{};
  std::vector<Block> blocks;
  std::vector<Warp> warps;
  std::vector<Thread> threads;
  std::vector<Clock> clocks;       // of the threads, with the thread sanitizer
  std::vector<Fiber*> own_fibers;  // the same
  std::vector<Warp*> by_rank;
  std::vector<char> shared;
  char* shared_base = nullptr;  // aligned
  std::vector<int64_t> block_order;
  std::vector<Fiber*> fibers, free_fibers;
  ReadySet ready;
  Fiber system;
  Clock system_clock = nullptr;
  char begun = 0, ended = 0;  // addresses for the thread sanitizer

  int threads_per_block = 0, warps_per_block = 0, ranks = 0;
  size_t shared_bytes = 0, shared_stride = 0;
  int64_t block_count = 0, next_block = 0, live = 0;
  uint32_t flip = 0;  // the order of a warp's lanes
  int cursor = 0, cursor_bit = 0;
  int64_t spins = 0;  // since something else happened
  int64_t switches = 0, until_change = 0, change_every = 0;
  uint64_t random = 0;
  bool failed = false;
};
inline Device device;

// Of a thread's lane, in Warp::ready.
inline uint32_t bit_of(const Thread& t) { return 1u << (static_cast<uint32_t>(t.lane) ^ device.flip); }

inline Clock& clock_of(const Thread& t) { return device.clocks[static_cast<size_t>(&t - device.threads.data())]; }

// ---- launch.cpp ----

// The current thread has returned from the kernel.
void end_thread();

// ---- schedule.cpp ----

// Before a launch: all from the seed. Then the warps' order, once they are there.
void seed_schedule();
void shuffle_ranks();
uint64_t draw();
int draw_below(int n);
uint32_t flipped(uint32_t mask);

void make_ready(Warp& warp, uint32_t bits);
void make_unready(Warp& warp, uint32_t bits);
// The current thread waits: another goes on. Returns when it has been made ready and is its turn.
void wait(const char* what, Site site);
// At its block's barrier.
void wait_at_barrier(const char* what, Site site);
// Makes those lanes ready.
void wake(Warp& warp, uint32_t lanes);
void wake_barrier(Block& block);
// The current thread stays ready; after waking others, who may go first.
void let_others_go();
// Runs the launch's threads, from the first that is ready.
void run_launch();
[[noreturn]] void leave_launch();

// ---- collectives.cpp ----

// Lets the block's barrier go if all its live threads are there.
void open_barrier_if_full(Block& block);
// A thread has ended: whoever still waits for it in its warp never meets it.
void leave_warp(const Thread& thread);

// ---- reports.cpp ----

std::string name_of(const void* kernel);
std::string place(const Thread& thread);
std::string place(const Site& site);
// Which threads wait where.
std::string waiting_threads();
// The current thread did wrong: the launch ends, and its report says this.
[[noreturn]] void fail_launch(const std::string& message);

}  // namespace gpusim
