// The one file that knows nvcc from the simulator (tests/cuda_sim): how kernels are declared and launched, and the few
// instructions that CUDA C++ has no name for. The simulator's header declares the rest, CUDA's own names.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FNN_UNIT cuda

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "gpusim.h"
#endif

#include "math/scalar.h"

namespace fusednn {
inline namespace FNN_UNIT {

#define FNN_DEVICE __device__ __forceinline__

// A kernel's head: FNN_KERNEL(256, 4) name(const __grid_constant__ Arguments a). Registers are kept few enough for
// `blocks` blocks of `threads` threads on a multiprocessor.
#define FNN_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)

// A block's dynamic shared memory. Kernels take all of theirs from here, so that one block's is never another's.
FNN_DEVICE char* shared_memory() {
#ifdef __CUDACC__
  extern __shared__ __align__(128) char fnn_shared_memory[];
  return fnn_shared_memory;
#else
  return gpusim::shared_memory();
#endif
}

// The same number, but the compiler does not know it: what follows from it is computed anew, not kept in registers.
FNN_DEVICE int64_t forgotten(int64_t value) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(value));
#endif
  return value;
}

// Counters that blocks of a grid wait at. The release makes what the thread wrote, and saw written by threads that met
// it at a barrier of its block, visible to whoever acquires.
FNN_DEVICE uint32_t load_acquire(const uint32_t* p) {
#ifdef __CUDACC__
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
#else
  return gpusim::load_acquire(p);
#endif
}
// Returns the old value.
FNN_DEVICE uint32_t add_acquire_release(uint32_t* p, uint32_t value) {
#ifdef __CUDACC__
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(value) : "memory");
  return old;
#else
  return gpusim::add_acquire_release(p, value);
#endif
}

// Between two looks at a counter that another block will change.
FNN_DEVICE void spin_pause() {
#ifdef __CUDACC__
  __nanosleep(32);
#else
  gpusim::spin_pause();
#endif
}

// 16 bytes of global memory, and what becomes of them in the caches.
struct alignas(16) Bytes16 {
  uint32_t word[4];
};

// Read or written once: the first to leave the caches.
FNN_DEVICE Bytes16 load_streaming(const Bytes16* p) {
#ifdef __CUDACC__
  Bytes16 v;
  asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(p));
  return v;
#else
  gpusim::note_read(p, sizeof *p);
  return *p;
#endif
}

// Read again by a later pass: not kept in L1.
FNN_DEVICE Bytes16 load_kept(const Bytes16* p) {
#ifdef __CUDACC__
  Bytes16 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(p));
  return v;
#else
  gpusim::note_read(p, sizeof *p);
  return *p;
#endif
}

FNN_DEVICE void store_streaming(Bytes16* p, const Bytes16& v) {
#ifdef __CUDACC__
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]),
               "r"(v.word[3])
               : "memory");
#else
  gpusim::note_write(p, sizeof *p);
  *p = v;
#endif
}

// Single elements of arrays, where a vector is not whole.
template <class T>
FNN_DEVICE T load_element(const T* p) {
#ifndef __CUDACC__
  gpusim::note_read(p, sizeof *p);
#endif
  return *p;
}
template <class T>
FNN_DEVICE void store_element(T* p, T value) {
#ifndef __CUDACC__
  gpusim::note_write(p, sizeof *p);
#endif
  *p = value;
}

// Pairs of short floating-point numbers in a word, the first in the low bits: the machine's conversions where it has
// them, else math/scalar.h's. They differ in the bits of a NaN only.
FNN_DEVICE void widen_float16_pair(uint32_t bits, float& low, float& high) {
#ifdef __CUDA_ARCH__
  // Volatile: numbers that are widened twice are not kept wide meanwhile, which takes twice the registers.
  asm volatile("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
               : "=f"(low), "=f"(high)
               : "r"(bits));
#else
  low = float_of_float16<float>(bits & 0xffffu);
  high = float_of_float16<float>(bits >> 16);
#endif
}
FNN_DEVICE uint32_t narrow_float16_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t bits;
  asm("{.reg .b16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h};}"
      : "=r"(bits)
      : "f"(low), "f"(high));
  return bits;
#else
  return float16_of_float<uint32_t>(low) | float16_of_float<uint32_t>(high) << 16;
#endif
}
FNN_DEVICE uint32_t narrow_bfloat16_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return bfloat16_of_float<uint32_t>(low) | bfloat16_of_float<uint32_t>(high) << 16;
#endif
}

// How a kernel is started.
struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
  bool cooperative = false;
};

// Starts kernel(arguments...) on the stream. The arguments are the kernel's own types, passed by value.
template <class... Parameters>
inline cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                          const Parameters&... arguments) {
#ifdef __CUDACC__
  if (shape.shared_bytes > 48 * 1024) {
    const cudaError_t raised =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes));
    if (raised != cudaSuccess) return raised;
  }
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &cooperative;
  config.numAttrs = shape.cooperative ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
#else
  return gpusim::launch(reinterpret_cast<const void*>(kernel), shape.grid, shape.block, shape.shared_bytes,
                        shape.cooperative, stream, [=] { kernel(arguments...); });
#endif
}

}  // namespace FNN_UNIT
}  // namespace fusednn
