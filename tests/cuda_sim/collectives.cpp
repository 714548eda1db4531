// Where threads meet: the barrier of a block and the collectives of a warp. All who meet must come from the same call in
// the source, name the same lanes, and be there: the device leaves anything else undefined.
#include "launch_state.h"

namespace gpusim {
namespace {

bool same(const Site& a, const Site& b) {
  if (memcmp(&a, &b, sizeof a) == 0) return true;
  return a.line() == b.line() && a.column() == b.column() && strcmp(a.file_name(), b.file_name()) == 0;
}

std::string lanes(uint32_t mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

int lowest(uint32_t mask) { return __builtin_ctz(mask); }

// All lanes have brought their value and source: what each of them takes away.
void exchange(Warp& warp, const Meeting& meeting) {
  if (meeting.kind == Collective::sync) return;
  uint64_t brought[32];
  uint32_t ballot = 0;
  for (uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const int l = lowest(rest);
    brought[l] = warp.value[l];
    if (brought[l] != 0) ballot |= 1u << l;
  }
  for (uint32_t rest = meeting.mask; rest != 0; rest &= rest - 1) {
    const int l = lowest(rest);
    warp.value[l] = meeting.kind == Collective::vote ? ballot : brought[warp.source[l]];
  }
}

}  // namespace

int lane() { return current->lane; }

Votes block_barrier(bool vote, const char* name, Site site) {
  Thread& thread = *current;
  Block& block = *thread.block;
  if (block.arrived > 0 && !same(block.site, site)) {
    fail_launch(std::string("divergent barrier: ") + name + " at " + place(site) +
                ", while other threads of the block wait at " + place(block.site));
  }
  block.site = site;
  block.barrier_name = name;
  const unsigned parity = block.generation & 1;
  release(&block.order[parity]);
  block.votes += vote;
  ++block.arrived;
  if (block.arrived == block.live) {
    open_barrier_if_full(block);
    let_others_go();
  } else {
    wait_at_barrier(name, site);
  }
  acquire(&block.order[parity]);
  return {block.result, block.result_threads};
}

void open_barrier_if_full(Block& block) {
  if (block.arrived == 0 || block.arrived < block.live) return;
  block.result = block.votes;
  block.result_threads = block.arrived;
  block.votes = block.arrived = 0;
  ++block.generation;
  wake_barrier(block);
}

uint64_t warp_collective(Collective kind, uint32_t mask, uint64_t value, int source, const char* name, Site site) {
  Thread& thread = *current;
  Warp& warp = *thread.warp;
  const int l = thread.lane;
  const auto wrong = [&](const std::string& what) {
    fail_launch(std::string(name) + " with mask " + lanes(mask) + " at " + place(site) + ": " + what);
  };
  if ((mask >> l & 1u) == 0) wrong("the mask lacks the calling lane");
  if ((mask & ~warp.exists) != 0) wrong("the warp has lanes " + lanes(warp.exists) + " only");
  if ((mask & warp.exited) != 0) wrong("lane " + std::to_string(lowest(mask & warp.exited)) + " has ended");
  if (kind == Collective::shuffle && (source < 0 || source > 31 || (mask >> source & 1u) == 0)) {
    wrong("lane " + std::to_string(source) + ", which is read, is not in the mask");
  }
  Meeting& meeting = warp.meetings[lowest(mask)];
  if (meeting.arrived == 0) {
    meeting.mask = mask;
    meeting.kind = kind;
    meeting.site = site;
  } else if (meeting.mask != mask) {
    wrong("lane " + std::to_string(lowest(meeting.arrived)) + " waits with mask " + lanes(meeting.mask) + " at " +
          place(meeting.site));
  } else if (meeting.kind != kind || !same(meeting.site, site)) {
    wrong("divergent: lane " + std::to_string(lowest(meeting.arrived)) + " waits at " + place(meeting.site));
  }
  warp.value[l] = value;
  warp.source[l] = source;
  meeting.arrived |= 1u << l;
  // Only __syncwarp orders memory.
  char* order = &meeting.order[meeting.generation & 1];
  if (kind == Collective::sync) release(order);
  if (meeting.arrived == mask) {
    exchange(warp, meeting);
    meeting.arrived = 0;
    ++meeting.generation;
    warp.meeting &= ~mask;
    wake(warp, mask & ~(1u << l));
    let_others_go();
  } else {
    warp.meeting |= 1u << l;
    wait(name, site);
  }
  if (kind == Collective::sync) acquire(order);
  return warp.value[l];
}

void leave_warp(const Thread& thread) {
  Warp& warp = *thread.warp;
  warp.exited |= 1u << thread.lane;
  if (warp.meeting == 0) return;
  for (const Meeting& meeting : warp.meetings) {
    if (meeting.arrived == 0 || (meeting.mask >> thread.lane & 1u) == 0) continue;
    fail_launch("the thread ended, while lane " + std::to_string(lowest(meeting.arrived)) +
                " of its warp waits for it at " + place(meeting.site) + " with mask " + lanes(meeting.mask));
  }
}

}  // namespace gpusim
