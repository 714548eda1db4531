#include "cpu/workspace.h"

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

}  // namespace fusednn
