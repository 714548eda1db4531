#include "cpu/workspace.h"

#include <cstdlib>

#include "cpu/host.h"

namespace fusednn {
namespace {

struct Buffer {
  void* data = nullptr;
  size_t size = 0;
  ~Buffer() { std::free(data); }
};

thread_local Buffer buffer;

// Room for what comes next too, in whole pages.
size_t with_room(size_t bytes) { return (bytes + bytes / 2 + 4095) / 4096 * 4096; }

void* workspace_of(Host& host, size_t bytes) {
  if (bytes <= host.workspace_size) return host.workspace;
  const size_t size = with_room(bytes);
  void* data = nullptr;
  try {
    data = host.allocate(host.memory_context, size, 64);
  } catch (...) {  // kernels cannot be unwound through: as if there were none
    return nullptr;
  }
  if (data == nullptr) return nullptr;
  if (host.workspace != nullptr) host.release(host.memory_context, host.workspace, host.workspace_size);
  host.workspace = data;
  host.workspace_size = size;
  return data;
}

}  // namespace

void* workspace(size_t bytes) {
  Host* lender = host();
  if (lender != nullptr && lender->allocate != nullptr) return workspace_of(*lender, bytes);
  if (bytes <= buffer.size) return buffer.data;
  const size_t size = with_room(bytes);
  void* data = std::aligned_alloc(4096, size);
  if (data == nullptr) return nullptr;
  std::free(buffer.data);
  buffer.data = data;
  buffer.size = size;
  return data;
}

}  // namespace fusednn
