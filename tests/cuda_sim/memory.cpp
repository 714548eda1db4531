// The device's memory and pinned host memory: fresh allocations hold NaNs, and guard zones lie on either side.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <vector>

#include "sanitizers.h"
#include "state.h"
#include "stream_work.h"

namespace gpusim {
namespace {

constexpr size_t kGuard = 512;
constexpr char kPoison = static_cast<char>(0xff);

struct Allocation {
  char* raw;
  size_t bytes;
  bool on_device;
};

std::map<const char*, Allocation>& allocations() {
  static auto* all = new std::map<const char*, Allocation>;  // outlives whatever frees at exit
  return *all;
}

// The allocation that [p, p + bytes) lies in, or the end.
std::map<const char*, Allocation>::iterator find(const void* p, size_t bytes) {
  const char* c = static_cast<const char*>(p);
  auto after = allocations().upper_bound(c);
  if (after == allocations().begin()) return allocations().end();
  const auto it = std::prev(after);
  return c + bytes <= it->first + it->second.bytes ? it : allocations().end();
}

bool is_whole(const char* p, size_t n) {
  return std::all_of(p, p + n, [](char c) { return c == kPoison; });
}

std::string broken_guard(const char* p, const Allocation& a) {
  if (kAddressSanitizer) return {};
  const std::string of = " an allocation of " + std::to_string(a.bytes) + " bytes";
  if (!is_whole(p - kGuard, kGuard)) return "out of bounds: written before" + of;
  if (!is_whole(p + a.bytes, kGuard)) return "out of bounds: written past" + of;
  return {};
}

cudaError_t allocate(void** pointer, size_t bytes, bool on_device) {
  if (settings.devices == 0) return noted(cudaErrorNoDevice);
  if (pointer == nullptr) return noted(cudaErrorInvalidValue);
  if (faults.allocation > 0 && --faults.allocation == 0) return noted(cudaErrorMemoryAllocation);
  ++counts.allocations;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t all = (bytes + 2 * kGuard + 255) / 256 * 256;
  auto* raw = static_cast<char*>(std::aligned_alloc(256, all));
  if (raw == nullptr) return noted(cudaErrorMemoryAllocation);
  memset(raw, kPoison, all);
  char* p = raw + kGuard;
  forbid(raw, kGuard);
  forbid(p + bytes, all - kGuard - bytes);
  allocations()[p] = {raw, bytes, on_device};
  *pointer = p;
  return cudaSuccess;
}

cudaError_t deallocate(void* pointer, bool on_device) {
  if (pointer == nullptr) return cudaSuccess;
  const auto it = allocations().find(static_cast<const char*>(pointer));
  if (it == allocations().end() || it->second.on_device != on_device) return noted(cudaErrorInvalidValue);
  const std::string broken = broken_guard(it->first, it->second);
  const Allocation a = it->second;
  allocations().erase(it);
  allow(a.raw, (a.bytes + 2 * kGuard + 255) / 256 * 256);
  memset(a.raw, kPoison, a.bytes + 2 * kGuard);
  std::free(a.raw);
  if (broken.empty()) return cudaSuccess;
  report = "free: " + broken;
  return noted(cudaErrorIllegalAddress);
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  const auto target = find(to, bytes), source = find(from, bytes), none = allocations().end();
  const bool to_device = target != none && target->second.on_device;
  const bool from_device = source != none && source->second.on_device;
  const bool fits = kind == cudaMemcpyDefault ||
                    (to_device == (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) &&
                     from_device == (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice));
  if (!fits) {
    report = "cudaMemcpy: the pointers are not what the kind of copy says, or " + std::to_string(bytes) +
             " bytes lie not in one allocation";
    return noted(cudaErrorInvalidValue);
  }
  ++counts.copies;
  memmove(to, from, bytes);
  return cudaSuccess;
}

}  // namespace

std::string broken_guards() {
  for (const auto& [p, a] : allocations()) {
    std::string broken = broken_guard(p, a);
    if (!broken.empty()) return broken;
  }
  return {};
}

int64_t live_allocations() { return static_cast<int64_t>(allocations().size()); }

}  // namespace gpusim

using namespace gpusim;
using Lock = std::lock_guard<std::mutex>;

// What CUDA calls potentially unsafe, beside a capture in its default mode.
static bool is_forbidden() { return is_capturing() && capture_mode != cudaStreamCaptureModeRelaxed; }

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const Lock lock(device_mutex);
  if (is_forbidden()) return noted(cudaErrorStreamCaptureUnsupported);
  return allocate(pointer, bytes, true);
}
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) {
  const Lock lock(device_mutex);
  const cudaError_t e = allocate(pointer, bytes, true);
  // Every replay of a graph finds it fresh.
  if (e == cudaSuccess && is_capturing() && bytes > 0) {
    return add([p = *pointer, bytes] {
      memset(p, kPoison, bytes);
      return cudaSuccess;
    });
  }
  return e;
}
cudaError_t cudaFree(void* pointer) {
  if (is_forbidden()) return noted(cudaErrorStreamCaptureUnsupported);
  do_pending();
  const Lock lock(device_mutex);
  return deallocate(pointer, true);
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
  // A graph keeps its memory from replay to replay.
  if (is_capturing()) return cudaSuccess;
  const auto work = [pointer] {
    const Lock lock(device_mutex);
    return deallocate(pointer, true);
  };
  return is_queued() ? add(work) : work();
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  const Lock lock(device_mutex);
  if (is_capturing()) return noted(cudaErrorStreamCaptureUnsupported);
  return allocate(pointer, bytes, false);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault); }
cudaError_t cudaFreeHost(void* pointer) {
  const Lock lock(device_mutex);
  return deallocate(pointer, false);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(device_mutex);
  const auto it = find(pointer, 1);
  void* p = const_cast<void*>(pointer);
  if (it == allocations().end()) {
    *attributes = {cudaMemoryTypeUnregistered, 0, nullptr, p};
  } else if (it->second.on_device) {
    const bool managed = settings.managed;
    *attributes = {managed ? cudaMemoryTypeManaged : cudaMemoryTypeDevice, settings.memory_of, p,
                   managed ? p : nullptr};
  } else {
    *attributes = {cudaMemoryTypeHost, 0, p, p};
  }
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (is_capturing()) return noted(cudaErrorStreamCaptureUnsupported);
  do_pending();
  const Lock lock(device_mutex);
  ++counts.synchronisations;
  return copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  const auto work = [=](const void* source) {
    const Lock lock(device_mutex);
    return copy(to, source, bytes, kind);
  };
  if (!is_queued()) return work(from);
  const char* first = static_cast<const char*>(from);
  const bool is_pageable = find(from, bytes) == allocations().end();
  // Of pageable memory the runtime makes a copy before it returns; a graph reads it at each replay.
  if (is_pageable && !is_capturing() && kind == cudaMemcpyHostToDevice) {
    return add([work, staged = std::vector<char>(first, first + bytes)] { return work(staged.data()); });
  }
  return add([work, from] { return work(from); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes == 0) return cudaSuccess;
  const auto work = [=] {
    const Lock lock(device_mutex);
    const auto it = find(to, bytes);
    if (it == allocations().end() || !it->second.on_device) {
      report = "cudaMemset: " + std::to_string(bytes) + " bytes lie not in one allocation of the device";
      return noted(cudaErrorInvalidValue);
    }
    memset(to, value, bytes);
    return cudaSuccess;
  };
  return is_queued() ? add(work) : work();
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }
