// Passes over memory that compute next to nothing, the roof under which kernels are measured: cpu/streams.h says what a
// pass computes. Over arrays of n floats it moves (inputs + 2 updated + output) n floats. A thread has kVectors 16-byte
// vectors of each array in flight, lanes of a warp those that lie side by side, as in the kernels.
#include "cuda/drivers.h"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = 4;
constexpr int kFloats = 4;  // of a vector

struct StreamArguments {
  int64_t vectors;
  int32_t input_count, updated_count;
  bool non_temporal;
  const Bytes16* inputs[kMaxStreamsRead];
  Bytes16* updated[kMaxStreamsUpdated];
  Bytes16* output;  // may be null
};

struct alignas(16) Floats {
  float of[kFloats];
};

// The thread's vectors of one array.
struct Vectors {
  int64_t first, end;
  bool non_temporal;

  FNN_DEVICE int64_t at(int v) const { return first + int64_t{v} * kThreads; }
  FNN_DEVICE void read(const Bytes16* array, Floats (&values)[kVectors]) const {
    Bytes16 loaded[kVectors];
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (at(v) < end) loaded[v] = non_temporal ? load_streaming(array + at(v)) : load_kept(array + at(v));
    }
#pragma unroll
    for (int v = 0; v < kVectors; ++v) memcpy(&values[v], &loaded[v], sizeof loaded[v]);
  }
  FNN_DEVICE void write(Bytes16* array, const Floats (&values)[kVectors], float factor) const {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (at(v) >= end) continue;
      Floats scaled;
#pragma unroll
      for (int i = 0; i < kFloats; ++i) scaled.of[i] = values[v].of[i] * factor;
      Bytes16 stored;
      memcpy(&stored, &scaled, sizeof stored);
      if (non_temporal) {
        store_streaming(array + at(v), stored);
      } else {
        array[at(v)] = stored;
      }
    }
  }
};

FNN_DEVICE void add(Floats (&sums)[kVectors], const Floats (&values)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int i = 0; i < kFloats; ++i) sums[v].of[i] += values[v].of[i];
  }
}

FNN_KERNEL(kThreads, 4)
pass_over(const __grid_constant__ StreamArguments a) {
  const int64_t first = int64_t{blockIdx.x} * kThreads * kVectors + threadIdx.x;
  const Vectors vectors{first, a.vectors, a.non_temporal};
  Floats sums[kVectors] = {};
  Floats values[kVectors];
#pragma unroll
  for (int i = 0; i < kMaxStreamsRead; ++i) {
    if (i >= a.input_count) continue;
    vectors.read(a.inputs[i], values);
    add(sums, values);
  }
#pragma unroll
  for (int i = 0; i < kMaxStreamsUpdated; ++i) {
    if (i >= a.updated_count) continue;
    vectors.read(a.updated[i], values);
    add(sums, values);
    vectors.write(a.updated[i], sums, 0.5f);
  }
  if (a.output != nullptr) vectors.write(a.output, sums, 1.0f);
}

}  // namespace

cudaError_t stream_pass(const StreamPass& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;
  StreamArguments a{};
  a.vectors = p.count / kFloats;
  a.input_count = p.input_count;
  a.updated_count = p.updated_count;
  a.non_temporal = p.non_temporal;
  for (int i = 0; i < p.input_count; ++i) a.inputs[i] = reinterpret_cast<const Bytes16*>(p.inputs[i]);
  for (int i = 0; i < p.updated_count; ++i) a.updated[i] = reinterpret_cast<Bytes16*>(p.updated[i]);
  a.output = reinterpret_cast<Bytes16*>(p.output);
  constexpr int64_t kPerBlock = int64_t{kThreads} * kVectors;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((a.vectors + kPerBlock - 1) / kPerBlock));
  shape.block = dim3(kThreads);
  return launch(pass_over, shape, stream, a);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
