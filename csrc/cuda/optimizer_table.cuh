// The list of an optimizer's tensors as the device sees it, cut into chunks that blocks take in turn.
//
// A chunk is a number of whole blocks of random bits and of codes, so that neither depends on which block of threads, or
// which warp, updates an element. A warp updates kUnit elements at a time: the elements that share a scale of codes.
#pragma once

#include "core/problem.h"
#include "cuda/launch.h"
#include "cuda/reduce.cuh"
#include "math/quantize.h"
#include "math/stochastic_rounding.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int64_t kUnit = kCodeBlock;
constexpr int64_t kChunk = 4096;
static_assert(kChunk % kRandomBlock == 0 && kRandomBlock % kUnit == 0);

// A lane's elements of a unit: kVectors times kPerLane that lie side by side.
constexpr int kPerLane = 4;
constexpr int kVectors = kUnit / (kWarp * kPerLane);
constexpr int kLaneElements = kVectors * kPerLane;

enum class Storage : uint16_t { kNone, kFloat32, kFloat64, kFloat16, kBFloat16, kCodes };

constexpr uint16_t bytes_of(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:  return 4;
    case Storage::kFloat64:  return 8;
    case Storage::kFloat16:
    case Storage::kBFloat16: return 2;
    case Storage::kCodes:    return 1;
    case Storage::kNone:     break;
  }
  return 0;
}

// `aligned`: kPerLane elements that start at a multiple of that can be read at once. Each element is aligned to its size.
struct alignas(16) DeviceStream {
  char* data;
  Storage storage;
  uint16_t element_bytes;
  uint32_t aligned;
};

inline DeviceStream device_stream(void* data, Storage storage) {
  if (data == nullptr) return {nullptr, Storage::kNone, 0, 0};
  const uint16_t bytes = bytes_of(storage);
  // 16 bytes are the most that one access takes: of float64 it takes two.
  const uintptr_t vector = kPerLane * bytes < 16 ? kPerLane * bytes : 16;
  return {static_cast<char*>(data), storage, bytes, reinterpret_cast<uintptr_t>(data) % vector == 0};
}

inline DeviceStream device_stream(const Stream& s) {
  switch (s.dtype) {
    case DType::kFloat64:  return device_stream(s.data, Storage::kFloat64);
    case DType::kFloat16:  return device_stream(s.data, Storage::kFloat16);
    case DType::kBFloat16: return device_stream(s.data, Storage::kBFloat16);
    case DType::kFloat32:  break;
  }
  return device_stream(s.data, Storage::kFloat32);
}

struct alignas(16) TensorRecord {
  DeviceStream param, grad, ema, low_precision_copy;
  DeviceStream states[kMaxStates];
  float* state_scales[kMaxStates];
  int64_t count;
  int64_t first_chunk;
  int64_t steps_ahead;  // of the list's first tensor: so nothing here changes from step to step
};

inline TensorRecord tensor_record(const OptimizerTensor& t, int64_t first_chunk, int64_t first_step_of_list) {
  TensorRecord r{};
  r.param = device_stream(t.param);
  r.grad = device_stream(t.grad);
  r.ema = device_stream(t.ema);
  r.low_precision_copy = device_stream(t.low_precision_copy);
  for (int s = 0; s < kMaxStates; ++s) {
    const bool codes = t.state_scales[s] != nullptr;
    r.states[s] = codes ? device_stream(t.states[s].data, Storage::kCodes) : device_stream(t.states[s]);
    r.state_scales[s] = static_cast<float*>(t.state_scales[s]);
  }
  r.count = t.count;
  r.first_chunk = first_chunk;
  r.steps_ahead = t.step - first_step_of_list;
  return r;
}

// A sum of squares, and whether an element was not finite.
struct SquareSum {
  double squares;
  uint32_t nonfinite;
};

// The last of `count` records whose first(record) is at most `at`: of those with no chunks the last, which has one.
template <class Record, class First>
FNN_DEVICE int64_t find_record(const Record* records, int64_t count, int64_t at, const First& first) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (first(records[middle]) <= at) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
