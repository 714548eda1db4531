#include "traffic.h"

#include <algorithm>
#include <vector>

#include "state.h"

namespace gpusim {

bool traced = false;

namespace {

std::vector<Access>& accesses() {
  static auto* all = new std::vector<Access>;  // outlives whatever is told at exit
  return *all;
}

}  // namespace

// Kernels run under the device's lock, and a test asks between them.
void note_access(const void* p, size_t bytes, bool writes) {
  const dim3 grid = here.grid_size;
  const uint32_t block = (here.block.z * grid.y + here.block.y) * grid.x + here.block.x;
  accesses().push_back({reinterpret_cast<uintptr_t>(p), static_cast<uint32_t>(counts.launches), block,
                        static_cast<uint32_t>(bytes), writes ? 1u : 0u});
}

}  // namespace gpusim

using namespace gpusim;

// From now on, with nothing noted yet, or no longer.
extern "C" __attribute__((visibility("default"))) void gpusim_trace(bool on) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  traced = on;
  if (on) accesses().clear();
}
// How many accesses were noted; copies the first `room` of them.
extern "C" __attribute__((visibility("default"))) int64_t gpusim_traffic(Access* to, int64_t room) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  const auto count = static_cast<int64_t>(accesses().size());
  std::copy_n(accesses().begin(), std::min(room, count), to);
  return count;
}
