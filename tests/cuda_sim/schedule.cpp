// Who goes on: the schedules, and the switch from thread to thread.
#include <algorithm>

#include "launch_state.h"

namespace gpusim {

Coordinates here{};

namespace {

constexpr int64_t kMostSwitches = 200'000'000;

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

Thread* choose(Warp& warp, int bit) { return &warp.threads[static_cast<uint32_t>(bit) ^ device.flip]; }

void wake_spinning() {
  for (Warp* warp : device.by_rank) {
    if (warp->spinning == 0) continue;
    make_ready(*warp, warp->spinning);
    warp->spinning = 0;
  }
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
    wake_spinning();
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

}  // namespace

void seed_schedule() {
  const Order order = settings.order;
  device.random = settings.seed * 0x9e3779b97f4a7c15ull + 0x1234567;
  for (int i = 0; i < 4; ++i) draw();
  const bool is_random = order == Order::random || order == Order::starve;
  device.flip = order == Order::reverse ? 31 : is_random ? static_cast<uint32_t>(draw_below(32)) : 0;
  // Of three seeds one keeps its priorities, one changes them often, one seldom.
  device.change_every = settings.seed % 3 == 0 ? 0 : settings.seed % 3 == 1 ? 30 : 500;
  device.until_change = device.change_every;
  device.spins = device.switches = 0;
  device.cursor = 0;
  device.cursor_bit = -1;
}

void shuffle_ranks() {
  if (settings.order == Order::reverse) {
    for (int i = 0; i < device.ranks / 2; ++i) swap_ranks(i, device.ranks - 1 - i);
  } else if (settings.order != Order::fifo) {
    for (int i = device.ranks; i > 1; --i) swap_ranks(i - 1, draw_below(i));
  }
}

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

void make_ready(Warp& warp, uint32_t bits) {
  warp.ready |= bits;
  if (warp.ready != 0) device.ready.set(warp.rank);
}
void make_unready(Warp& warp, uint32_t bits) {
  warp.ready &= ~bits;
  if (warp.ready == 0) device.ready.clear(warp.rank);
}

void run_launch() {
  device.system = system_fiber();
  device.system_clock = current_clock();
  go_on_with(next_thread(), device.system, false);
}

void leave_launch() { back_to_system(*current->fiber); }

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

void wait_at_barrier(const char* what, Site site) {
  current->warp->at_barrier |= bit_of(*current);
  wait(what, site);
}

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
    // Looks again when a counter has changed or nobody else can run.
    make_unready(*t.warp, bit_of(t));
    t.warp->spinning |= bit_of(t);
  }
  yield();
}

void counter_changed() {
  if (settings.order != Order::starve) return;
  // Whoever waits for it may go on before the rest of the block that changed it.
  wake_spinning();
  yield();
}

void may_switch(Site site) {
  current->site = site;
  if (settings.order == Order::random ? (draw() & 3) == 0
                                      : settings.order == Order::starve && device.change_every > 0) {
    yield();
  }
}

}  // namespace gpusim
