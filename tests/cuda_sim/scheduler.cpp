// Launches: the threads of the blocks that are resident, who of them goes on, and what is said when none can.
#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <memory>

#include "ready_set.h"
#include "state.h"

namespace gpusim {

Coordinates here{};

namespace {

constexpr size_t kGuard = 256;  // bytes on either side of a block's shared memory
constexpr int64_t kMostSwitches = 1'000'000'000;

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
Device device;

Clock& clock_of(const Thread& t) { return device.clocks[static_cast<size_t>(&t - device.threads.data())]; }

uint64_t draw() {
  device.random ^= device.random << 13;
  device.random ^= device.random >> 7;
  device.random ^= device.random << 17;
  return device.random * 0x2545f4914f6cdd1dull >> 32;
}
int draw_below(int n) { return static_cast<int>(draw() * static_cast<uint64_t>(n) >> 32); }

// Bit i to bit i ^ flip.
uint32_t flipped(uint32_t mask) {
  const uint32_t f = device.flip;
  if (f & 1) mask = (mask & 0x55555555u) << 1 | (mask >> 1 & 0x55555555u);
  if (f & 2) mask = (mask & 0x33333333u) << 2 | (mask >> 2 & 0x33333333u);
  if (f & 4) mask = (mask & 0x0f0f0f0fu) << 4 | (mask >> 4 & 0x0f0f0f0fu);
  if (f & 8) mask = (mask & 0x00ff00ffu) << 8 | (mask >> 8 & 0x00ff00ffu);
  if (f & 16) mask = mask << 16 | mask >> 16;
  return mask;
}
uint32_t bit_of(const Thread& t) { return 1u << (static_cast<uint32_t>(t.lane) ^ device.flip); }

void make_ready(Warp& warp, uint32_t bits) {
  warp.ready |= bits;
  if (warp.ready != 0) device.ready.set(warp.rank);
}
void make_unready(Warp& warp, uint32_t bits) {
  warp.ready &= ~bits;
  if (warp.ready == 0) device.ready.clear(warp.rank);
}

void swap_ranks(int a, int b) {
  std::swap(device.by_rank[a], device.by_rank[b]);
  for (const int rank : {a, b}) {
    device.by_rank[rank]->rank = rank;
    if (device.by_rank[rank]->ready != 0) {
      device.ready.set(rank);
    } else {
      device.ready.clear(rank);
    }
  }
}

char* shared_of(int slot) { return device.shared_base + static_cast<size_t>(slot) * device.shared_stride + kGuard; }

// ---- Blocks begin and end ----

void begin_block(Block& block, int64_t number) {
  const dim3& grid = here.grid_size;
  const dim3& size = here.block_size;
  const int64_t x = grid.x, y = grid.y;
  block.index = {static_cast<unsigned>(number % x), static_cast<unsigned>(number / x % y),
                 static_cast<unsigned>(number / (x * y))};
  block.live = device.threads_per_block;
  block.arrived = block.votes = 0;
  block.shared = shared_of(block.slot);
  char* guarded = block.shared - kGuard;
  allow(guarded, device.shared_stride);
  memset(guarded, 0xff, device.shared_stride);
  forbid(guarded, kGuard);
  forbid(block.shared + device.shared_bytes, device.shared_stride - kGuard - device.shared_bytes);
  for (int w = 0; w < device.warps_per_block; ++w) {
    Warp& warp = block.warps[w];
    const int lanes = std::min(32, device.threads_per_block - w * 32);
    warp.exists = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warp.exited = warp.meeting = warp.spinning = warp.at_barrier = 0;
    warp.ready = 0;
    for (Meeting& meeting : warp.meetings) meeting.arrived = 0;
    make_ready(warp, flipped(warp.exists));
  }
  unsigned i = 0;
  for (unsigned tz = 0; tz < size.z; ++tz) {
    for (unsigned ty = 0; ty < size.y; ++ty) {
      for (unsigned tx = 0; tx < size.x; ++tx, ++i) {
        Thread& t = block.threads[i];
        t.index = {tx, ty, tz};
        t.fiber = nullptr;
        if (kThreadSanitizer && clock_of(t) == nullptr) clock_of(t) = create_clock();
      }
    }
  }
  device.live += device.threads_per_block;
  release(&device.begun);
}

void check_shared_guards(const Block& block) {
  if (kAddressSanitizer) return;
  const auto written = [](const char* p, size_t n) {
    return std::any_of(p, p + n, [](char c) { return c != static_cast<char>(0xff); });
  };
  if (written(block.shared - kGuard, kGuard)) fail_launch("out of bounds: written before the block's shared memory");
  if (written(block.shared + device.shared_bytes, device.shared_stride - kGuard - device.shared_bytes)) {
    fail_launch("out of bounds: written past the block's " + std::to_string(device.shared_bytes) +
                " bytes of shared memory");
  }
}

// ---- Who goes on ----

Thread* choose(Warp& warp, int bit) { return &warp.threads[static_cast<uint32_t>(bit) ^ device.flip]; }

std::string waiting_threads() {
  std::string text;
  int named = 0, waiting = 0;
  for (const Block& block : device.blocks) {
    if (block.live == 0) continue;
    for (int i = 0; i < device.threads_per_block; ++i) {
      const Thread& t = block.threads[i];
      const bool may_run = ((t.warp->ready | t.warp->spinning) & bit_of(t)) != 0;
      if (may_run || (t.warp->exited >> t.lane & 1u) != 0) continue;
      ++waiting;
      // One of a warp tells enough.
      if (named < 8 && (named == 0 || i % 32 == 0)) {
        ++named;
        text += "\n  " + place(t) + " waits in " + t.waits_in + " at " + place(t.site);
      }
    }
  }
  return text + "\n  " + std::to_string(waiting) + " threads wait in all";
}

Thread* next_thread() {
  ++device.switches;
  int rank = 0;
  switch (settings.order) {
    case Order::fifo:
    case Order::reverse: {
      Warp& warp = *device.by_rank[device.cursor];
      const uint32_t later = device.cursor_bit == 31 ? 0 : warp.ready & (~0u << (device.cursor_bit + 1));
      if (later != 0) {
        device.cursor_bit = __builtin_ctz(later);
        return choose(warp, device.cursor_bit);
      }
      rank = device.ready.next(device.cursor + 1);
      break;
    }
    case Order::random: rank = device.ready.next(draw_below(device.ranks)); break;
    case Order::starve:
      rank = device.ready.next(0);
      if (rank >= 0 && device.change_every > 0 && --device.until_change <= 0) {
        device.until_change = 1 + draw_below(static_cast<int>(2 * device.change_every));
        swap_ranks(rank, draw_below(device.ranks));
        rank = device.ready.next(0);
      }
      break;
  }
  if (rank < 0) {
    // Only spinning threads are left: let them look again.
    for (Warp* warp : device.by_rank) {
      if (warp->spinning == 0) continue;
      make_ready(*warp, warp->spinning);
      warp->spinning = 0;
    }
    rank = device.ready.next(0);
    if (rank < 0) fail_launch("deadlock:" + waiting_threads());
  }
  Warp& warp = *device.by_rank[rank];
  device.cursor = rank;
  if (settings.order == Order::random) {
    const int r = draw_below(32);
    const uint32_t later = warp.ready & (~0u << r);
    device.cursor_bit = __builtin_ctz(later != 0 ? later : warp.ready);
  } else {
    device.cursor_bit = __builtin_ctz(warp.ready);
  }
  return choose(warp, device.cursor_bit);
}

void run_threads();

Fiber* new_fiber() {
  device.fibers.push_back(create_fiber());
  return device.fibers.back();
}

// To the thread sanitizer a stack used by one thread and then by another would be a race: each keeps its own there.
Fiber* take_fiber(Thread& t) {
  if (kThreadSanitizer) {
    Fiber*& own = device.own_fibers[static_cast<size_t>(&t - device.threads.data())];
    if (own == nullptr) own = new_fiber();
    return own;
  }
  if (device.free_fibers.empty()) return new_fiber();
  Fiber* fiber = device.free_fibers.back();
  device.free_fibers.pop_back();
  return fiber;
}

void become(Thread* t) {
  current = t;
  here.thread = t->index;
  here.block = t->block->index;
  if (kThreadSanitizer) use_clock(clock_of(*t));
}

void go_on_with(Thread* next, Fiber& from, bool ends) {
  become(next);
  if (next->fiber == nullptr) {
    next->fiber = take_fiber(*next);
    arm(*next->fiber, run_threads);
  }
  switch_fiber(from, *next->fiber, ends);
}

[[noreturn]] void back_to_system(Fiber& from) {
  use_clock(device.system_clock);
  switch_fiber(from, device.system, true);
  __builtin_unreachable();
}

// The current thread has returned from the kernel.
void end_thread() {
  Thread& t = *current;
  Block& block = *t.block;
  device.spins = 0;
  release(&device.ended);
  make_unready(*t.warp, bit_of(t));
  leave_warp(t);
  --device.live;
  if (--block.live > 0) {
    open_barrier_if_full(block);
    return;
  }
  check_shared_guards(block);
  if (device.next_block < device.block_count) {
    const int64_t n = device.next_block++;
    begin_block(block, device.block_order.empty() ? n : device.block_order[static_cast<size_t>(n)]);
  }
}

// What a fiber does: runs threads that have not begun one after another on its stack, until one that has begun is next.
void run_threads() {
  Fiber& fiber = *current->fiber;
  while (true) {
    acquire(&device.begun);
    device.kernel.run(device.kernel.body);
    end_thread();
    if (device.live == 0) back_to_system(fiber);
    Thread* next = next_thread();
    if (next->fiber != nullptr || kThreadSanitizer) {
      if (!kThreadSanitizer) device.free_fibers.push_back(&fiber);
      go_on_with(next, fiber, true);
    }
    become(next);
    next->fiber = &fiber;
  }
}

void yield() {
  Thread& t = *current;
  Thread* next = next_thread();
  if (next != &t) go_on_with(next, *t.fiber, false);
}

// ---- Before and after ----

std::string name_of(const void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || info.dli_saddr != address) return "kernel";
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> plain(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                     free);
  std::string name = status == 0 ? plain.get() : info.dli_sname;
  return "kernel " + name.substr(0, name.rfind('('));
}

struct Problem {
  cudaError_t error = cudaSuccess;
  std::string message;
};

Problem problem_of(dim3 grid, dim3 block, size_t shared_bytes, bool cooperative) {
  const auto text = [](dim3 d) {
    return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
  };
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) {
    return {cudaErrorInvalidConfiguration, "a block has 1 to 1024 threads. Received: " + text(block)};
  }
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return {cudaErrorInvalidConfiguration,
            "a grid has 1 to (2147483647, 65535, 65535) blocks. Received: " + text(grid)};
  }
  if (shared_bytes > settings.shared_per_block) {
    return {cudaErrorInvalidValue, "a block has " + std::to_string(settings.shared_per_block) +
                                       " bytes of shared memory. Received: " + std::to_string(shared_bytes)};
  }
  if (!cooperative) return {};
  if (!settings.cooperative) return {cudaErrorNotSupported, "the device has no cooperative launches"};
  int resident = 0;
  resident_blocks(&resident, static_cast<int>(threads), shared_bytes);
  const int64_t most = int64_t{resident} * settings.multiprocessors;
  if (int64_t{grid.x} * grid.y * grid.z > most) {
    return {cudaErrorCooperativeLaunchTooLarge, "the device holds " + std::to_string(most) +
                                                    " such blocks of a cooperative launch. Received: " + text(grid)};
  }
  return {};
}

void prepare(dim3 grid, dim3 block, size_t shared_bytes) {
  device.failed = false;
  device.threads_per_block = static_cast<int>(block.x * block.y * block.z);
  device.warps_per_block = (device.threads_per_block + 31) / 32;
  device.shared_bytes = shared_bytes;
  device.shared_stride = (shared_bytes + 127) / 128 * 128 + 2 * kGuard;
  device.block_count = int64_t{grid.x} * grid.y * grid.z;
  int per_multiprocessor = 0;
  resident_blocks(&per_multiprocessor, device.threads_per_block, shared_bytes);
  const int slots = static_cast<int>(
      std::min<int64_t>(device.block_count, int64_t{std::max(1, per_multiprocessor)} * settings.multiprocessors));
  here.grid_size = grid;
  here.block_size = block;
  device.random = settings.seed * 0x9e3779b97f4a7c15ull + 0x1234567;
  for (int i = 0; i < 4; ++i) draw();
  const Order order = settings.order;
  const bool is_random = order == Order::random || order == Order::starve;
  device.flip = order == Order::reverse ? 31 : is_random ? static_cast<uint32_t>(draw_below(32)) : 0;
  // Of three seeds one keeps its priorities, one changes them often, one seldom.
  device.change_every = settings.seed % 3 == 0 ? 0 : settings.seed % 3 == 1 ? 30 : 500;
  device.until_change = device.change_every;

  // A larger launch moves the arrays, so all pointers are set anew.
  device.ranks = slots * device.warps_per_block;
  device.blocks.resize(static_cast<size_t>(slots));
  if (device.warps.size() < static_cast<size_t>(device.ranks)) device.warps.resize(static_cast<size_t>(device.ranks));
  const size_t threads = static_cast<size_t>(slots) * static_cast<size_t>(device.threads_per_block);
  if (device.threads.size() < threads) device.threads.resize(threads);
  if (kThreadSanitizer && device.clocks.size() < threads) {
    device.clocks.resize(threads);
    device.own_fibers.resize(threads);
  }
  device.by_rank.resize(static_cast<size_t>(device.ranks));
  const size_t shared = device.shared_stride * static_cast<size_t>(slots) + 128;
  allow(device.shared.data(), device.shared.size());
  if (device.shared.size() < shared) device.shared.resize(shared);
  const auto start = reinterpret_cast<uintptr_t>(device.shared.data());
  device.shared_base = device.shared.data() + (128 - start % 128) % 128;
  device.ready.reset(device.ranks);
  for (int slot = 0; slot < slots; ++slot) {
    Block& b = device.blocks[static_cast<size_t>(slot)];
    b.slot = slot;
    b.warps = &device.warps[static_cast<size_t>(slot * device.warps_per_block)];
    b.threads = &device.threads[static_cast<size_t>(slot) * static_cast<size_t>(device.threads_per_block)];
    for (int w = 0; w < device.warps_per_block; ++w) {
      Warp& warp = b.warps[w];
      warp.block = &b;
      warp.threads = b.threads + w * 32;
      warp.rank = slot * device.warps_per_block + w;
      if (order == Order::reverse) warp.rank = device.ranks - 1 - warp.rank;
      warp.ready = 0;
      device.by_rank[static_cast<size_t>(warp.rank)] = &warp;
    }
    for (int i = 0; i < device.threads_per_block; ++i) {
      Thread& t = b.threads[i];
      t.block = &b;
      t.warp = &b.warps[i / 32];
      t.lane = i % 32;
    }
  }
  // Blocks begin in an order that nothing may rely on.
  device.block_order.clear();
  if (order != Order::fifo && device.block_count > 1 && device.block_count <= 1'000'000) {
    device.block_order.resize(static_cast<size_t>(device.block_count));
    for (size_t i = 0; i < device.block_order.size(); ++i) device.block_order[i] = static_cast<int64_t>(i);
    std::reverse(device.block_order.begin(), device.block_order.end());
    for (size_t i = device.block_order.size(); is_random && i > 1; --i) {
      std::swap(device.block_order[i - 1], device.block_order[static_cast<size_t>(draw_below(static_cast<int>(i)))]);
    }
  }
  if (is_random) {
    for (int i = device.ranks; i > 1; --i) swap_ranks(i - 1, draw_below(i));
  }
  device.live = device.next_block = device.spins = device.switches = 0;
  device.cursor = 0;
  device.cursor_bit = -1;
  device.free_fibers = device.fibers;
  for (Block& b : device.blocks) {
    const int64_t n = device.next_block++;
    begin_block(b, device.block_order.empty() ? n : device.block_order[static_cast<size_t>(n)]);
  }
}

// After a failure: what threads have done is over, and what lies on their stacks is nobody's.
void abandon_threads() {
  if (!kThreadSanitizer) return;
  for (Clock& clock : device.clocks) {
    if (clock == nullptr) continue;
    use_clock(clock);
    release(&device.ended);
    use_clock(device.system_clock);
    destroy_clock(clock);
  }
  std::fill(device.clocks.begin(), device.clocks.end(), nullptr);
  std::fill(device.own_fibers.begin(), device.own_fibers.end(), nullptr);
}

}  // namespace

int64_t stacks() { return static_cast<int64_t>(device.fibers.size()); }

// ---- For what waits ----

void wait(const char* what, Site site) {
  Thread& t = *current;
  t.waits_in = what;
  t.site = site;
  make_unready(*t.warp, bit_of(t));
  go_on_with(next_thread(), *t.fiber, false);
}

void wake(Warp& warp, uint32_t lanes) {
  device.spins = 0;
  make_ready(warp, flipped(lanes));
}

void note_at_barrier(const Thread& thread) { thread.warp->at_barrier |= bit_of(thread); }

void wake_barrier(Block& block) {
  for (int w = 0; w < device.warps_per_block; ++w) {
    Warp& warp = block.warps[w];
    const uint32_t lanes = flipped(warp.at_barrier);
    warp.at_barrier = 0;
    wake(warp, lanes);
  }
}

void let_others_go() {
  if (settings.order == Order::starve || (settings.order == Order::random && (draw() & 1) != 0)) yield();
}

void spin_pause(Site site) {
  Thread& t = *current;
  t.site = site;
  if (++device.spins > 2000 + 200 * device.live || device.switches > kMostSwitches) {
    fail_launch("livelock: every thread that can run spins or waits; this one spins at " + place(site) +
                waiting_threads());
  }
  if (settings.order == Order::starve) {
    // Looks again when nobody else can run.
    make_unready(*t.warp, bit_of(t));
    t.warp->spinning |= bit_of(t);
  }
  yield();
}

void may_switch(Site site) {
  current->site = site;
  if (settings.order == Order::random ? (draw() & 3) == 0
                                      : settings.order == Order::starve && device.change_every > 0) {
    yield();
  }
}

char* shared_memory() { return current->block->shared; }

bool is_shared(const void* p) {
  const char* c = static_cast<const char*>(p);
  return c >= device.shared.data() && c < device.shared.data() + device.shared.size();
}

void fence() {
  static char all;
  release(&all);
  acquire(&all);
}

// ---- Reports ----

std::string place(const Site& site) {
  const char* slash = strrchr(site.file_name(), '/');
  return std::string(slash == nullptr ? site.file_name() : slash + 1) + ":" + std::to_string(site.line());
}

std::string place(const Thread& t) {
  const auto text = [](uint3 v) {
    std::string s = "(" + std::to_string(v.x);
    return s + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
  };
  return "block " + text(t.block->index) + " thread " + text(t.index);
}

void fail_launch(const std::string& message) {
  report = name_of(device.kernel.address) + ", " + place(*current) + ": " + message;
  device.failed = true;
  back_to_system(*current->fiber);
}

void fail(const char* message, Site site) { fail_launch(std::string(message) + " at " + place(site)); }

cudaError_t check_launch(const void* address, dim3 grid, dim3 block, size_t shared_bytes, bool cooperative) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  if (settings.devices == 0) return noted(cudaErrorNoDevice);
  if (faults.launch > 0 && --faults.launch == 0) return noted(cudaErrorLaunchOutOfResources);
  const Problem problem = problem_of(grid, block, shared_bytes, cooperative);
  if (problem.error != cudaSuccess) report = name_of(address) + ": " + problem.message;
  return noted(problem.error);
}

cudaError_t launch(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  device.kernel = kernel;
  ++counts.launches;
  prepare(grid, block, shared_bytes);
  device.system = system_fiber();
  device.system_clock = current_clock();
  go_on_with(next_thread(), device.system, false);
  if (device.failed) abandon_threads();
  acquire(&device.ended);
  current = nullptr;
  counts.switches += device.switches;
  allow(device.shared.data(), device.shared.size());
  if (device.failed) return noted(cudaErrorLaunchFailure);
  const std::string broken = broken_guards();
  if (!broken.empty()) {
    report = name_of(device.kernel.address) + ": " + broken;
    return noted(cudaErrorIllegalAddress);
  }
  return cudaSuccess;
}

}  // namespace gpusim
