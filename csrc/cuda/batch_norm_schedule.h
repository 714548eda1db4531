// How BatchNorm's reductions are cut (by the problem alone) and which blocks compute them (by the device). Plain host
// code: tests call it without a GPU.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fusednn {
inline namespace FNN_UNIT {

// Leaves of a part: the sums of a part are merged by its block, in order, those of parts at the end. No more parts than
// what a few lanes merge in less than the time of a leaf.
inline int64_t leaves_per_part(int64_t strips, int64_t leaves, int64_t fold) {
  constexpr int64_t kMostParts = 1024;
  constexpr int64_t kMostFoldedParts = 2048;  // over all strips, as channels have columns in several
  const int64_t all = fold == 1 ? leaves : strips * leaves;
  const int64_t most = fold == 1 ? kMostParts : kMostFoldedParts;
  const int64_t each = (all + most - 1) / most;
  return each < 1 ? 1 : each < leaves ? each : leaves < 1 ? 1 : leaves;
}

struct DeviceLimits {
  int32_t multiprocessors;            // those that may be used
  int32_t blocks_per_multiprocessor;  // that registers and threads allow of the resident kernel
  int64_t shared_per_block, shared_per_multiprocessor, shared_reserved;  // bytes; the last per block
  bool cooperative;
};

// What the chooser must know of a problem.
struct ResidentProblem {
  int64_t units, leaves;                // leaves of a unit
  int64_t leaf_bytes;                   // what a leaf takes where it is kept
  int64_t shared_bytes;                 // what a block needs beside leaves
  double resident_cost, two_pass_cost;  // arrays moved, 2 and 3 forward, 3 and 5 backward
};

struct ResidentSchedule {
  bool fits;  // else two passes
  int64_t group, groups, leaves_per_block;
  size_t shared_bytes;
};

// The blocks of a group and the leaves of a block that take the least time; two passes where nothing fits, or they take
// less. Time in units of what a multiprocessor's share of the memory takes to move 32 KiB once, on an H200 a microsecond.
// A round is what all groups do with a unit each: move its leaves, and wait where no other block of the multiprocessor
// moves any meanwhile.
inline ResidentSchedule choose_schedule(const ResidentProblem& problem, const DeviceLimits& device) {
  constexpr double kLatency = 0.8;  // of a leaf: nothing is read while it is reduced
  constexpr double kBarrier = 1.5;
  constexpr double kLaunches = 3.0;  // two more kernels
  ResidentSchedule best{};
  if (problem.units < 1 || problem.leaves < 1 || device.multiprocessors < 1) return best;
  const double multiprocessors = device.multiprocessors;
  const auto leaves = static_cast<double>(problem.units * problem.leaves);
  const double waves = leaves / multiprocessors;
  double least = (waves < 1.0 ? 1.0 : waves) * problem.two_pass_cost + kLaunches;
  for (int64_t blocks = device.blocks_per_multiprocessor; blocks >= 1; --blocks) {
    int64_t shared = device.shared_per_multiprocessor / blocks - device.shared_reserved;
    if (shared > device.shared_per_block) shared = device.shared_per_block;
    if (shared < problem.shared_bytes) continue;
    const int64_t most = 1 + (shared - problem.shared_bytes) / problem.leaf_bytes;
    const int64_t resident = blocks * device.multiprocessors;
    for (int64_t each = 1; each <= most; ++each) {
      const int64_t group = (problem.leaves + each - 1) / each;
      if (group > resident || (group > 1 && !device.cooperative)) continue;
      const int64_t groups = resident / group < problem.units ? resident / group : problem.units;
      const int64_t rounds = (problem.units + groups - 1) / groups;
      // Few blocks have multiprocessors for themselves.
      const double sharing = static_cast<double>(group * groups) / multiprocessors;
      const double moving = static_cast<double>(each) * problem.resident_cost * (sharing < 1.0 ? 1.0 : sharing);
      const double waiting = static_cast<double>(each) * kLatency + (group > 1 ? kBarrier : 0.0);
      const double cost = static_cast<double>(rounds) * (moving + waiting / static_cast<double>(blocks));
      if (cost >= least) continue;
      least = cost;
      best = {true, group, groups, each, static_cast<size_t>(problem.shared_bytes + (each - 1) * problem.leaf_bytes)};
    }
  }
  return best;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
