// BatchNorm on the device of a call: its limits, its workspace, the functions of a storage type. And the merging of
// statistics, which needs no more than a thread for each channel.
#include <mutex>
#include <vector>

#include "cuda/device.h"
#include "cuda/drivers.h"
#include "cuda/kept_memory.h"
#include "cuda/upload.cuh"
#include "math/batch_norm.h"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

cudaError_t limits_of(int32_t device, DeviceLimits* limits) {
  const auto ask = [device](cudaDeviceAttr attribute, int64_t* value) {
    int found = 0;
    const cudaError_t e = cudaDeviceGetAttribute(&found, attribute, device);
    *value = found;
    return e;
  };
  int64_t multiprocessors = 0;
  int64_t cooperative = 0;
  int64_t threads = 0;
  cudaError_t e = ask(cudaDevAttrMultiProcessorCount, &multiprocessors);
  if (e == cudaSuccess) e = ask(cudaDevAttrCooperativeLaunch, &cooperative);
  if (e == cudaSuccess) e = ask(cudaDevAttrMaxThreadsPerMultiProcessor, &threads);
  if (e == cudaSuccess) e = ask(cudaDevAttrMaxSharedMemoryPerBlockOptin, &limits->shared_per_block);
  if (e == cudaSuccess) e = ask(cudaDevAttrMaxSharedMemoryPerMultiprocessor, &limits->shared_per_multiprocessor);
  if (e == cudaSuccess) e = ask(cudaDevAttrReservedSharedMemoryPerBlock, &limits->shared_reserved);
  limits->multiprocessors = static_cast<int32_t>(multiprocessors);
  // The kernels are compiled for two blocks' registers (FNN_KERNEL(kThreads, 2)).
  limits->blocks_per_multiprocessor = threads >= 2 * 256 ? 2 : 1;
  limits->cooperative = cooperative != 0;
  return e;
}

// Asked for once: a question to the driver takes as long as a small kernel.
cudaError_t known_limits(int32_t device, DeviceLimits* limits) {
  struct Known {
    std::mutex mutex;
    std::vector<DeviceLimits> of_devices;
  };
  static auto* known = new Known;
  const std::lock_guard<std::mutex> lock(known->mutex);
  const auto index = static_cast<size_t>(device);
  if (index >= known->of_devices.size()) known->of_devices.resize(index + 1);
  DeviceLimits& found = known->of_devices[index];
  cudaError_t e = cudaSuccess;
  if (found.multiprocessors == 0) e = limits_of(device, &found);
  *limits = found;
  return e;
}

// The caller's memory where it has an allocator, else the library's own. One block for a call; what the call enqueued is
// ahead of whatever the allocator gives it to next on the stream.
class Workspace {
 public:
  explicit Workspace(const CudaPlace& place) : place_(place) {}
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() {
    if (taken_ != nullptr) {
      place_.workspace.release(place_.workspace.context, taken_, bytes_, place_.device, place_.stream);
    }
  }

  static void* allocate(void* self, size_t bytes) { return static_cast<Workspace*>(self)->take(bytes); }
  cudaError_t error() const { return error_; }

 private:
  void* take(size_t bytes) {
    if (place_.workspace.allocate != nullptr) {
      bytes_ = bytes;
      taken_ = place_.workspace.allocate(place_.workspace.context, bytes, place_.device, place_.stream);
      return taken_;
    }
    StreamPlace place;
    error_ = StreamPlace::of(static_cast<cudaStream_t>(place_.stream), &place);
    if (error_ == cudaSuccess) error_ = kept_.require(bytes, true, place);
    return error_ == cudaSuccess ? kept_.data() : nullptr;
  }

  const CudaPlace& place_;
  KeptMemory kept_{KeptMemory::Of::kCall};
  void* taken_ = nullptr;
  size_t bytes_ = 0;
  cudaError_t error_ = cudaSuccess;
};

// A part's statistics, for kernels.
struct alignas(16) MergedPart {
  const void* mean;
  const void* m2;
  double count;
};

constexpr int kMergeThreads = 128;

template <class C>
FNN_KERNEL(kMergeThreads, 1)
merge_parts(const MergedPart* parts, int64_t count, int64_t channels, C* mean, C* m2) {
  const int64_t c = int64_t{blockIdx.x} * kMergeThreads + threadIdx.x;
  if (c >= channels) return;
  Moments merged{0.0, 0.0, 0.0};
  for (int64_t i = 0; i < count; ++i) {
    const MergedPart part = parts[i];
    if (part.count == 0.0) continue;  // its numbers may be anything
    merged = merge(merged, Moments{static_cast<double>(static_cast<const C*>(part.mean)[c]),
                                   static_cast<double>(static_cast<const C*>(part.m2)[c]), part.count});
  }
  mean[c] = C(merged.mean);
  m2[c] = C(merged.m2);
}

template <class C>
cudaError_t launch_merge(const MergedStatistics& p, const void* parts, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((p.channels + kMergeThreads - 1) / kMergeThreads));
  shape.block = dim3(kMergeThreads);
  return launch(merge_parts<C>, shape, stream, static_cast<const MergedPart*>(parts), p.parts, p.channels,
                static_cast<C*>(p.mean), static_cast<C*>(p.m2));
}

}  // namespace

cudaError_t batch_norm(BatchNormFunction BatchNormFunctions::* function, const BatchNorm& p, const CudaPlace& place) {
  DeviceLimits limits{};
  if (const cudaError_t e = known_limits(place.device, &limits); e != cudaSuccess) return e;
  limits.multiprocessors -= place.spare_multiprocessors;
  if (limits.multiprocessors < 1) limits.multiprocessors = 1;
  Workspace workspace(place);
  Device device(static_cast<cudaStream_t>(place.stream), limits, &Workspace::allocate, &workspace);
  const cudaError_t e = (batch_norm_functions(p.dtype).*function)(p, device);
  return workspace.error() != cudaSuccess ? workspace.error() : e;
}

cudaError_t merge_statistics(const MergedStatistics& p, const CudaPlace& place) {
  if (p.channels == 0) return cudaSuccess;
  std::vector<MergedPart> parts;
  for (int64_t i = 0; i < p.parts; ++i) parts.push_back({p.means[i], p.m2s[i], static_cast<double>(p.counts[i])});
  Workspace workspace(place);
  const size_t bytes = parts.size() * sizeof(MergedPart);
  void* table = Workspace::allocate(&workspace, bytes);
  if (table == nullptr) return workspace.error() != cudaSuccess ? workspace.error() : cudaErrorMemoryAllocation;
  const auto stream = static_cast<cudaStream_t>(place.stream);
  if (const cudaError_t e = upload(table, parts.data(), bytes, stream); e != cudaSuccess) return e;
  return p.dtype == DType::kFloat64 ? launch_merge<double>(p, table, stream) : launch_merge<float>(p, table, stream);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
