#include "cpu/workspace.h"

#include <unistd.h>

#include <cstdlib>

namespace fusednn {
namespace {

struct Buffer {
  void* data = nullptr;
  size_t size = 0;
  ~Buffer() { std::free(data); }
};

thread_local Buffer buffer;

}  // namespace

void* workspace(size_t bytes) {
  if (bytes <= buffer.size) return buffer.data;
  const size_t size = (bytes + bytes / 2 + 4095) / 4096 * 4096;
  void* data = std::aligned_alloc(4096, size);
  if (data == nullptr) return nullptr;
  std::free(buffer.data);
  buffer.data = data;
  buffer.size = size;
  return data;
}

int64_t cache_budget() {
  // Half of the last level: the rest is for what flows through and for other threads. Some systems report nothing.
  static const int64_t budget = [] {
    constexpr int64_t kAtLeast = 1 << 19;
    const int64_t l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    const int64_t l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const int64_t share = l3 / 8;
    const int64_t best = share > l2 ? share : l2;
    return best > kAtLeast ? best : kAtLeast;
  }();
  return budget;
}

}  // namespace fusednn
