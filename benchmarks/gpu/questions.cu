// What the kernels' design rests on, measured by kernels that do nothing else: which copy is fastest, what a second pass
// in reverse order gains from L2, what a barrier of a grid costs by its blocks (our counter, cooperative groups, clusters),
// how long an optimizer's chunks should be. Prints one JSON object a line: {"question", "case", "value", "unit"}.
//
//   nvcc -O3 -std=c++20 -arch=native -fmad=false -I csrc -o questions benchmarks/gpu/questions.cu && ./questions
//
// `questions dry` does everything once, with small arrays: so it runs on the simulator of tests/cuda_sim, too, which has
// neither cooperative groups nor clusters.
#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <type_traits>
#include <vector>

#include "cuda/launch.h"

using namespace fusednn;

namespace {

constexpr int kThreads = 256;
constexpr size_t kKiB = size_t{1} << 10, kMiB = size_t{1} << 20;

// How much is done: of buffers, of runs that are timed, and of barriers in each.
struct Extent {
  size_t bytes = 1024 * kMiB;
  int times = 21, warming = 3, barriers = 200;
};
Extent extent;

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  fprintf(stderr, "%s: %s (%s)\n", what, cudaGetErrorString(e), cudaGetErrorName(e));
  exit(1);
}

void tell(const char* question, const char* name, double value, const char* unit) {
  printf("{\"question\": \"%s\", \"case\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n", question, name, value, unit);
  fflush(stdout);
}

// Median seconds of `work(i)`, i counting up, so that buffers can take turns.
template <class Work>
double seconds_of(const Work& work) {
  cudaEvent_t before, after;
  check(cudaEventCreate(&before), "cudaEventCreate");
  check(cudaEventCreate(&after), "cudaEventCreate");
  for (int i = 0; i < extent.warming; ++i) work(i);
  std::vector<float> taken;
  for (int i = 0; i < extent.times; ++i) {
    check(cudaEventRecord(before), "cudaEventRecord");
    work(i);
    check(cudaGetLastError(), "launch");
    check(cudaEventRecord(after), "cudaEventRecord");
    check(cudaEventSynchronize(after), "kernel");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, before, after), "cudaEventElapsedTime");
    taken.push_back(ms);
  }
  std::sort(taken.begin(), taken.end());
  check(cudaEventDestroy(before), "cudaEventDestroy");
  check(cudaEventDestroy(after), "cudaEventDestroy");
  return taken[taken.size() / 2] * 1e-3;
}

// Starts kernel(arguments...) in blocks of kThreads threads.
template <class... Parameters>
void start(void (*kernel)(Parameters...), int64_t blocks, const std::type_identity_t<Parameters>&... arguments) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(blocks));
  shape.block = dim3(kThreads);
  check(launch(kernel, shape, nullptr, arguments...), "launch");
}

// Device memory full of 1.0f.
__global__ void fill(float* p, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x)
    p[i] = 1;
}

class Buffer {
 public:
  explicit Buffer(size_t bytes) {
    check(cudaMalloc(&data_, bytes), "cudaMalloc");
    const auto count = static_cast<int64_t>(bytes / sizeof(float));
    start(fill, std::clamp<int64_t>(count / 4096, 1, 1024), static_cast<float*>(data_), count);
    check(cudaDeviceSynchronize(), "fill");
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }

  Bytes16* vectors() const { return static_cast<Bytes16*>(data_); }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_ = nullptr;
};

// ---- Copies ----

template <int kVectors, bool kStreaming>
__global__ void __launch_bounds__(kThreads) copy(const Bytes16* from, Bytes16* to, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * kThreads * kVectors;
  for (int64_t first = int64_t{blockIdx.x} * kThreads * kVectors + threadIdx.x; first < count; first += step) {
    Bytes16 values[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = first + int64_t{v} * kThreads;
      if (at < count) values[v] = kStreaming ? load_streaming(from + at) : load_kept(from + at);
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = first + int64_t{v} * kThreads;
      if (at >= count) continue;
      if (kStreaming) {
        store_streaming(to + at, values[v]);
      } else {
        to[at] = values[v];
      }
    }
  }
}

template <int kVectors, bool kStreaming>
void copy_case(const Buffer& from, const Buffer& to, size_t bytes, int resident) {
  const auto count = static_cast<int64_t>(bytes / sizeof(Bytes16));
  const auto all = static_cast<int>((count + kThreads * kVectors - 1) / (kThreads * kVectors));
  for (const bool persistent : {false, true}) {
    const int grid = persistent ? resident : all;
    const double s =
        seconds_of([&](int) { start(copy<kVectors, kStreaming>, grid, from.vectors(), to.vectors(), count); });
    char name[96];
    snprintf(name, sizeof name, "%d x 16 bytes a thread, %s, %s", kVectors, kStreaming ? "past the caches" : "plain",
             persistent ? "resident blocks" : "a block each");
    tell("copy", name, 2.0 * static_cast<double>(bytes) / s * 1e-12, "TB/s");
  }
}

// ---- A second pass over what was just read ----

template <bool kReversed>
__global__ void __launch_bounds__(kThreads) map_again(const Bytes16* from, Bytes16* to, int64_t count) {
  const int64_t blocks = gridDim.x;
  const int64_t block = kReversed ? blocks - 1 - blockIdx.x : blockIdx.x;
  const int64_t first = block * kThreads * 4 + threadIdx.x;
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    const int64_t at = first + int64_t{v} * kThreads;
    if (at < count) store_streaming(to + at, load_streaming(from + at));
  }
}

__global__ void __launch_bounds__(kThreads) read_all(const Bytes16* from, int64_t count, uint32_t* sums) {
  const int64_t first = int64_t{blockIdx.x} * kThreads * 4 + threadIdx.x;
  uint32_t sum = 0;
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    const int64_t at = first + int64_t{v} * kThreads;
    if (at < count) sum += load_kept(from + at).word[0];
  }
  if (sum == 1) sums[0] = sum;  // hardly ever: what is read must look used
}

void second_pass(const Buffer& from, const Buffer& to, size_t l2, size_t most) {
  for (const double share : {0.5, 1.0, 2.0, 4.0, 8.0}) {
    const size_t bytes = static_cast<size_t>(share * static_cast<double>(l2)) / kKiB * kKiB;
    if (bytes == 0 || bytes > most) continue;
    const auto count = static_cast<int64_t>(bytes / sizeof(Bytes16));
    const auto grid = static_cast<int>((count + kThreads * 4 - 1) / (kThreads * 4));
    const Buffer sums(16);
    const auto both = [&](bool reversed) {
      return seconds_of([&](int) {
        start(read_all, grid, from.vectors(), count, reinterpret_cast<uint32_t*>(sums.floats()));
        start(reversed ? map_again<true> : map_again<false>, grid, from.vectors(), to.vectors(), count);
      });
    };
    const double forwards = both(false), backwards = both(true);
    char name[64];
    snprintf(name, sizeof name, "%.1f x L2 (%.4g MiB)", share, static_cast<double>(bytes) / kMiB);
    tell("reversed second pass, time saved", name, 1.0 - backwards / forwards, "of both passes");
  }
}

// ---- Barriers ----

enum class Barrier { kCounter, kGrid, kCluster };

template <Barrier kBarrier>
__global__ void __launch_bounds__(kThreads) wait_often(uint32_t* counter, uint32_t blocks, int times) {
  for (int i = 1; i <= times; ++i) {
    if constexpr (kBarrier == Barrier::kCounter) {
      __syncthreads();
      if (threadIdx.x == 0) {
        add_acquire_release(counter, 1);
        while (load_acquire(counter) < static_cast<uint32_t>(i) * blocks) spin_pause();
      }
      __syncthreads();
    } else {
#ifdef __CUDACC__
      if constexpr (kBarrier == Barrier::kGrid) cooperative_groups::this_grid().sync();
#if __CUDA_ARCH__ >= 900
      if constexpr (kBarrier == Barrier::kCluster) cooperative_groups::this_cluster().sync();
#endif
#endif
    }
  }
}

template <Barrier kBarrier>
cudaError_t start_waiting(uint32_t* counter, int blocks) {
#ifdef __CUDACC__
  cudaLaunchAttribute attribute{};
  if (kBarrier == Barrier::kCluster) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  } else {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, wait_often<kBarrier>, counter, static_cast<uint32_t>(blocks), extent.barriers);
#else
  if (kBarrier != Barrier::kCounter) return cudaErrorNotSupported;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(blocks));
  shape.block = dim3(kThreads);
  shape.cooperative = true;
  return launch(wait_often<kBarrier>, shape, nullptr, counter, static_cast<uint32_t>(blocks), extent.barriers);
#endif
}

template <Barrier kBarrier>
void barrier_case(const char* whose, int blocks) {
  const Buffer counter(16);
  auto* zero = reinterpret_cast<uint32_t*>(counter.floats());
  check(cudaMemset(zero, 0, 4), "cudaMemset");
  if (start_waiting<kBarrier>(zero, blocks) != cudaSuccess) {
    cudaGetLastError();
    return;  // not on this device
  }
  check(cudaDeviceSynchronize(), whose);
  const double s = seconds_of([&](int) {
    check(cudaMemsetAsync(zero, 0, 4), "cudaMemset");
    check(start_waiting<kBarrier>(zero, blocks), whose);
  });
  char name[64];
  snprintf(name, sizeof name, "%s, %d blocks", whose, blocks);
  tell("barrier", name, s / extent.barriers * 1e6, "us");
}

void barriers(int multiprocessors, int capability) {
  for (int blocks = 2; blocks < 2 * multiprocessors; blocks *= 2) {
    barrier_case<Barrier::kCounter>("counter", blocks);
    barrier_case<Barrier::kGrid>("cooperative groups", blocks);
    if (capability >= 90 && blocks <= 8) barrier_case<Barrier::kCluster>("cluster", blocks);
  }
  barrier_case<Barrier::kCounter>("counter", 2 * multiprocessors);
  barrier_case<Barrier::kGrid>("cooperative groups", 2 * multiprocessors);
}

// ---- Chunks of an optimizer ----

struct Adam {
  float* param;
  const float* grad;
  float* mean;
  float* square;
};

// Chunks of `chunk` elements, dealt to resident blocks as the optimizers do.
__global__ void __launch_bounds__(kThreads) adam_in_chunks(Adam a, int64_t count, int64_t chunk) {
  for (int64_t begin = int64_t{blockIdx.x} * chunk; begin < count; begin += int64_t{gridDim.x} * chunk) {
    const int64_t end = begin + chunk < count ? begin + chunk : count;
    for (int64_t i = begin + 4 * int64_t{threadIdx.x}; i + 3 < end; i += 4 * kThreads) {
      float4 p = *reinterpret_cast<const float4*>(a.param + i);
      const float4 g = *reinterpret_cast<const float4*>(a.grad + i);
      float4 m = *reinterpret_cast<const float4*>(a.mean + i);
      float4 v = *reinterpret_cast<const float4*>(a.square + i);
      const auto update = [](float& param, float grad, float& mean, float& square) {
        mean = 0.9f * mean + 0.1f * grad;
        square = 0.999f * square + 0.001f * grad * grad;
        param -= 1e-3f * mean / (sqrtf(square) + 1e-8f);
      };
      update(p.x, g.x, m.x, v.x);
      update(p.y, g.y, m.y, v.y);
      update(p.z, g.z, m.z, v.z);
      update(p.w, g.w, m.w, v.w);
      *reinterpret_cast<float4*>(a.param + i) = p;
      *reinterpret_cast<float4*>(a.mean + i) = m;
      *reinterpret_cast<float4*>(a.square + i) = v;
    }
  }
}

void chunks(const Buffer& large, int64_t count, int multiprocessors) {
  float* base = large.floats();
  const Adam a{base, base + count, base + 2 * count, base + 3 * count};
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, adam_in_chunks, kThreads, 0), "occupancy");
  for (int64_t chunk = 1024; chunk <= 65536; chunk *= 2) {
    const double s = seconds_of([&](int) { start(adam_in_chunks, blocks * multiprocessors, a, count, chunk); });
    char name[64];
    snprintf(name, sizeof name, "%lld elements", static_cast<long long>(chunk));
    tell("optimizer chunk", name, 28.0 * static_cast<double>(count) / s * 1e-12, "TB/s");
  }
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "dry") extent = {kMiB, 1, 0, 3};
  const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  const int capability =
      attribute(cudaDevAttrComputeCapabilityMajor) * 10 + attribute(cudaDevAttrComputeCapabilityMinor);
  const size_t bytes = extent.bytes;
  const size_t l2 = std::min(static_cast<size_t>(attribute(cudaDevAttrL2CacheSize)), bytes / 8);
  const Buffer from(bytes), to(bytes);
  const int resident = multiprocessors * 8;
  copy_case<1, false>(from, to, bytes, resident);
  copy_case<4, false>(from, to, bytes, resident);
  copy_case<1, true>(from, to, bytes, resident);
  copy_case<2, true>(from, to, bytes, resident);
  copy_case<4, true>(from, to, bytes, resident);
  copy_case<8, true>(from, to, bytes, resident);
  second_pass(from, to, l2, bytes);
  barriers(multiprocessors, capability);
  chunks(from, static_cast<int64_t>(bytes / 16), multiprocessors);
  return 0;
}
