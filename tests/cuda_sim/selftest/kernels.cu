// Kernels with and without bugs, for the tests of the simulator itself.
#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int kThreads = 128;

// out[i] = in[n - 1 - i] by way of shared memory.
FNN_KERNEL(kThreads, 1) reverse_kernel(const float* in, float* out, int n) {
  float* s = reinterpret_cast<float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  s[i] = in[i];
  __syncthreads();
  out[i] = s[n - 1 - i];
}

FNN_KERNEL(kThreads, 1) missing_barrier_kernel(const float* in, float* out, int n) {
  float* s = reinterpret_cast<float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  s[i] = in[i];
  out[i] = s[n - 1 - i];
}

// The second round overwrites what slower warps still read of the first.
FNN_KERNEL(kThreads, 1) reused_too_early_kernel(const float* in, float* out, int n) {
  float* s = reinterpret_cast<float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  float sum = 0.f;
  for (int round = 0; round < 2; ++round) {
    s[i] = in[i] + static_cast<float>(round);
    __syncthreads();
    sum += s[n - 1 - i];
  }
  out[i] = sum;
}

FNN_KERNEL(kThreads, 1) missing_syncwarp_kernel(const float* in, float* out, int) {
  float* s = reinterpret_cast<float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  s[i] = in[i];
  out[i] = s[i ^ 1];
}

FNN_KERNEL(kThreads, 1) divergent_barrier_kernel(const float* in, float* out, int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 64) {
    __syncthreads();
    out[i] = in[i];
  } else {
    __syncthreads();
    out[i] = -in[i];
  }
}

FNN_KERNEL(kThreads, 1) lane_not_there_kernel(const float* in, float* out, int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i % 32 < 16) out[i] = __shfl_down_sync(0xffffffffu, in[i], 1);
}

FNN_KERNEL(kThreads, 1) lane_not_in_mask_kernel(const float* in, float* out, int) {
  const int i = static_cast<int>(threadIdx.x);
  if (i % 32 < 16) out[i] = __shfl_down_sync(0x0000ffffu, in[i], 1);
}

FNN_KERNEL(kThreads, 1) masks_disagree_kernel(const float* in, float* out, int) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = __shfl_xor_sync(i % 32 < 16 ? 0xffffffffu : 0x7fffffffu, in[i], 1);
}

FNN_KERNEL(kThreads, 1) shared_overrun_kernel(const float* in, float* out, int n) {
  float* s = reinterpret_cast<float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  s[i + 1] = in[i];
  __syncthreads();
  out[i] = s[n - i];
}

FNN_KERNEL(kThreads, 1) global_overrun_kernel(const float* in, float* out, int) {
  const int i = static_cast<int>(threadIdx.x);
  out[i + 1] = in[i];
}

FNN_KERNEL(kThreads, 1) uninitialised_kernel(const float* in, float* out, int) {
  const float* s = reinterpret_cast<const float*>(shared_memory());
  const int i = static_cast<int>(threadIdx.x);
  out[i] = in[i] + s[i];
}

FNN_KERNEL(kThreads, 1) deadlock_kernel(const float* in, float* out, int) {
  // Lane 0 waits for lane 1, which waits for lane 0 elsewhere.
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) __syncwarp(0x3u);
  out[i] = in[i];
  __syncthreads();
}

// Blocks wait for one arrival more than there are.
FNN_KERNEL(kThreads, 1) livelock_kernel(uint32_t* arrivals) {
  if (threadIdx.x == 0) {
    add_acquire_release(arrivals, 1);
    while (load_acquire(arrivals) != gridDim.x + 1) spin_pause();
  }
  __syncthreads();
}

// out[b] = the sum over all blocks of what each brought; a barrier of the grid lies between.
FNN_KERNEL(kThreads, 1) grid_barrier_kernel(float* brought, float* out, uint32_t* arrivals) {
  const int b = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  if (threadIdx.x == 7) brought[b] = static_cast<float>(b + 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    add_acquire_release(arrivals, 1);
    while (load_acquire(arrivals) != gridDim.x) spin_pause();
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0.f;
  for (int i = 0; i < blocks; ++i) sum += brought[i];
  out[b] = sum;
}

// As above, but a block arrives before its last warp has written.
FNN_KERNEL(kThreads, 1) arrives_too_early_kernel(float* brought, float* out, uint32_t* arrivals) {
  const int b = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  __syncthreads();
  if (threadIdx.x == kThreads - 1) brought[b] = static_cast<float>(b + 1);
  if (threadIdx.x == 0) {
    add_acquire_release(arrivals, 1);
    while (load_acquire(arrivals) != gridDim.x) spin_pause();
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0.f;
  for (int i = 0; i < blocks; ++i) sum += brought[i];
  out[b] = sum;
}

// As above, but read before all have arrived.
FNN_KERNEL(kThreads, 1) no_grid_barrier_kernel(float* brought, float* out, uint32_t* arrivals) {
  const int b = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
  if (threadIdx.x == 7) brought[b] = static_cast<float>(b + 1);
  __syncthreads();
  if (threadIdx.x == 0) {
    add_acquire_release(arrivals, 1);
    float sum = 0.f;
    for (int i = 0; i < blocks; ++i) sum += brought[i];
    out[b] = sum;
  }
}

// out[0..6]: what every collective gives, summed over lanes in a way that tells them apart.
FNN_KERNEL(kThreads, 1) collectives_kernel(int* out) {
  const int i = static_cast<int>(threadIdx.x), l = i & 31;
  const unsigned all = 0xffffffffu;
  int* o = out + i * 12;
  o[0] = __shfl_down_sync(all, i, 3);
  o[1] = __shfl_up_sync(all, i, 3);
  o[2] = __shfl_xor_sync(all, i, 5);
  o[3] = __shfl_sync(all, i, 9);
  o[4] = __shfl_down_sync(all, i, 3, 8);
  o[5] = static_cast<int>(__ballot_sync(all, l % 3 == 0));
  o[6] = __any_sync(all, l == 4);
  o[7] = __all_sync(all, l < 31);
  o[8] = __syncthreads_count(i % 5 == 0);
  o[9] = __syncthreads_or(i == 77);
  o[10] = __syncthreads_and(i != 77);
  o[11] = l < 16 ? __shfl_xor_sync(0x0000ffffu, i, 1) : __shfl_xor_sync(0xffff0000u, i, 2);
}

// Integer atomics: counts[0] sum, [1] maximum, [2] how many saw their own ticket first.
FNN_KERNEL(kThreads, 1) atomics_kernel(int* counts) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(counts, i);
  atomicMax(counts + 1, i);
  if (atomicCAS(counts + 2, 0, 1) == 0) atomicAdd(counts + 3, 1);
}

FNN_KERNEL(kThreads, 1) places_kernel(uint32_t* out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const uint32_t i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  atomicAdd(out + i, 1u);
}

FNN_KERNEL(1024, 1) many_barriers_kernel(int rounds) {
  for (int i = 0; i < rounds; ++i) __syncthreads();
}
FNN_KERNEL(1024, 1) many_shuffles_kernel(int rounds, int* out) {
  int v = static_cast<int>(threadIdx.x);
  for (int i = 0; i < rounds; ++i) v = __shfl_xor_sync(0xffffffffu, v, 1);
  out[threadIdx.x] = v;
}
FNN_KERNEL(1024, 1) fill_kernel(float* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1.f; }

// ---- What the tests call ----

#define SELFTEST extern "C" __attribute__((visibility("default"))) int

#define FLOAT_KERNEL(name)                                                                   \
  SELFTEST selftest_##name(const float* in, float* out, int n, int64_t shared_bytes) {       \
    const LaunchShape shape{1, static_cast<unsigned>(n), static_cast<size_t>(shared_bytes)}; \
    return launch(name##_kernel, shape, nullptr, in, out, n);                                \
  }
FLOAT_KERNEL(reverse)
FLOAT_KERNEL(missing_barrier)
FLOAT_KERNEL(reused_too_early)
FLOAT_KERNEL(missing_syncwarp)
FLOAT_KERNEL(divergent_barrier)
FLOAT_KERNEL(lane_not_there)
FLOAT_KERNEL(lane_not_in_mask)
FLOAT_KERNEL(masks_disagree)
FLOAT_KERNEL(shared_overrun)
FLOAT_KERNEL(global_overrun)
FLOAT_KERNEL(uninitialised)
FLOAT_KERNEL(deadlock)

SELFTEST selftest_livelock(uint32_t* arrivals, int blocks) {
  return launch(livelock_kernel, {static_cast<unsigned>(blocks), kThreads, 0, true}, nullptr, arrivals);
}
SELFTEST selftest_grid_barrier(float* brought, float* out, uint32_t* arrivals, int blocks) {
  return launch(grid_barrier_kernel, {static_cast<unsigned>(blocks), kThreads, 0, true}, nullptr, brought, out,
                arrivals);
}
SELFTEST selftest_arrives_too_early(float* brought, float* out, uint32_t* arrivals, int blocks) {
  return launch(arrives_too_early_kernel, {static_cast<unsigned>(blocks), kThreads, 0, true}, nullptr, brought, out,
                arrivals);
}
SELFTEST selftest_no_grid_barrier(float* brought, float* out, uint32_t* arrivals, int blocks) {
  return launch(no_grid_barrier_kernel, {static_cast<unsigned>(blocks), kThreads, 0, true}, nullptr, brought, out,
                arrivals);
}
SELFTEST selftest_collectives(int* out) { return launch(collectives_kernel, {1, kThreads}, nullptr, out); }
SELFTEST selftest_atomics(int* counts, int blocks) {
  return launch(atomics_kernel, {static_cast<unsigned>(blocks), kThreads}, nullptr, counts);
}
SELFTEST selftest_places(uint32_t* out) { return launch(places_kernel, {dim3(3, 4, 2), dim3(5, 3, 4)}, nullptr, out); }
SELFTEST selftest_many_barriers(int blocks, int threads, int rounds) {
  return launch(many_barriers_kernel, {static_cast<unsigned>(blocks), static_cast<unsigned>(threads)}, nullptr, rounds);
}
SELFTEST selftest_many_shuffles(int threads, int rounds, int* out) {
  return launch(many_shuffles_kernel, {1, static_cast<unsigned>(threads)}, nullptr, rounds, out);
}
SELFTEST selftest_fill(float* out, int blocks, int threads) {
  return launch(fill_kernel, {static_cast<unsigned>(blocks), static_cast<unsigned>(threads)}, nullptr, out);
}

// Changes pinned memory that the copy may not have read yet.
SELFTEST selftest_overwritten_upload(float* out) {
  float* pinned = nullptr;
  if (cudaHostAlloc(&pinned, sizeof *pinned, cudaHostAllocDefault) != cudaSuccess) return -1;
  *pinned = 1.f;
  const cudaError_t e = cudaMemcpyAsync(out, pinned, sizeof *pinned, cudaMemcpyHostToDevice, nullptr);
  *pinned = 2.f;
  cudaDeviceSynchronize();
  cudaFreeHost(pinned);
  return e;
}
SELFTEST selftest_synchronize() { return cudaStreamSynchronize(nullptr); }

// Minus the error where there is one.
SELFTEST selftest_device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  return error == cudaSuccess ? count : -error;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
