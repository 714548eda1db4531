// Launches: their limits, the blocks that are resident, their shared memory.
#include <algorithm>

#include "launch_state.h"

namespace gpusim {
namespace {

constexpr size_t kGuard = 256;  // bytes on either side of a block's shared memory

char* shared_of(int slot) { return device.shared_base + static_cast<size_t>(slot) * device.shared_stride + kGuard; }

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

// The next of the grid's blocks, in the schedule's order, takes this place.
void begin_next_block(Block& block) {
  const int64_t n = device.next_block++;
  begin_block(block, device.block_order.empty() ? n : device.block_order[static_cast<size_t>(n)]);
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

// Makes room for what is resident, and says what belongs to what: a larger launch moves the arrays.
void lay_out(int slots) {
  const auto per_block = static_cast<size_t>(device.threads_per_block), count = static_cast<size_t>(slots);
  const size_t threads = count * per_block, ranks = static_cast<size_t>(device.ranks);
  device.blocks.resize(count);
  device.by_rank.resize(ranks);
  if (device.warps.size() < ranks) device.warps.resize(ranks);
  if (device.threads.size() < threads) device.threads.resize(threads);
  if (kThreadSanitizer && device.clocks.size() < threads) {
    device.clocks.resize(threads);
    device.own_fibers.resize(threads);
  }
  const size_t shared = device.shared_stride * count + 128;
  allow(device.shared.data(), device.shared.size());
  if (device.shared.size() < shared) device.shared.resize(shared);
  const auto start = reinterpret_cast<uintptr_t>(device.shared.data());
  device.shared_base = device.shared.data() + (128 - start % 128) % 128;
  device.ready.reset(device.ranks);
  for (int slot = 0; slot < slots; ++slot) {
    Block& b = device.blocks[static_cast<size_t>(slot)];
    b.slot = slot;
    b.warps = &device.warps[static_cast<size_t>(slot * device.warps_per_block)];
    b.threads = &device.threads[static_cast<size_t>(slot) * per_block];
    for (int w = 0; w < device.warps_per_block; ++w) {
      Warp& warp = b.warps[w];
      warp.block = &b;
      warp.threads = b.threads + w * 32;
      warp.rank = slot * device.warps_per_block + w;
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
}

// Blocks begin in an order that nothing may rely on.
void order_blocks() {
  constexpr int64_t kMost = 1'000'000;
  device.block_order.clear();
  if (settings.order == Order::fifo || device.block_count > kMost) return;
  const int count = static_cast<int>(device.block_count);
  for (int i = count; i > 0; --i) device.block_order.push_back(i - 1);
  if (settings.order == Order::reverse) return;
  for (int i = count; i > 1; --i) {
    std::swap(device.block_order[static_cast<size_t>(i - 1)], device.block_order[static_cast<size_t>(draw_below(i))]);
  }
}

void prepare(dim3 grid, dim3 block, size_t shared_bytes) {
  here.grid_size = grid;
  here.block_size = block;
  device.failed = false;
  device.threads_per_block = static_cast<int>(block.x * block.y * block.z);
  device.warps_per_block = (device.threads_per_block + 31) / 32;
  device.shared_bytes = shared_bytes;
  device.shared_stride = (shared_bytes + 127) / 128 * 128 + 2 * kGuard;
  device.block_count = int64_t{grid.x} * grid.y * grid.z;
  device.live = device.next_block = 0;
  device.free_fibers = device.fibers;
  int per_multiprocessor = 0;
  resident_blocks(&per_multiprocessor, device.threads_per_block, shared_bytes);
  const int64_t resident = int64_t{std::max(1, per_multiprocessor)} * settings.multiprocessors;
  const int slots = static_cast<int>(std::min(device.block_count, resident));
  device.ranks = slots * device.warps_per_block;
  seed_schedule();
  lay_out(slots);
  order_blocks();
  shuffle_ranks();
  for (Block& b : device.blocks) begin_next_block(b);
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
  if (device.next_block < device.block_count) begin_next_block(block);
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

cudaError_t check_launch(const void* address, dim3 grid, dim3 block, size_t shared_bytes, bool cooperative) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  if (settings.devices == 0) return noted(cudaErrorNoDevice);
  if (faults.launch > 0 && --faults.launch == 0) return noted(faults.launch_error);
  const Problem problem = problem_of(grid, block, shared_bytes, cooperative);
  if (problem.error != cudaSuccess) report = name_of(address) + ": " + problem.message;
  launch_devices.push_back(current_device);
  return noted(problem.error);
}

cudaError_t launch(const Kernel& kernel, dim3 grid, dim3 block, size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  device.kernel = kernel;
  ++counts.launches;
  prepare(grid, block, shared_bytes);
  run_launch();
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
