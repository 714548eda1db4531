// The drivers of optimizer steps and of norms. What a list leaves on the device from step to step: its tables, uploaded
// where they differ from those of the step before, and room for norms.
#include <new>
#include <vector>

#include "cuda/drivers.h"
#include "cuda/kept_memory.h"
#include "cuda/optimizer_update.cuh"
#include "cuda/squared_norms.cuh"
#include "cuda/upload.cuh"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

// Consecutive parts of one allocation, each aligned as device memory is.
class Parts {
 public:
  template <class T>
  size_t add(int64_t count) {
    const size_t at = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

// What measuring needs on the device.
class NormRoom {
 public:
  NormRoom(Parts& parts, int64_t arrays, int64_t leaves)
      : array_count_(arrays),
        leaf_count_(leaves),
        counters_(parts.add<uint32_t>(4)),
        arrays_(parts.add<NormArray>(arrays)),
        leaves_(parts.add<SquareSum>(leaves)),
        sums_(parts.add<double>(arrays)),
        total_(parts.add<SquareSum>(1)) {}

  // Counters must be zero before a kernel's first launch, and are left so.
  cudaError_t prepare(char* memory, const std::vector<NormArray>& arrays, cudaStream_t stream) const {
    if (const cudaError_t e = cudaMemsetAsync(memory + counters_, 0, 4 * sizeof(uint32_t), stream); e != cudaSuccess) {
      return e;
    }
    return upload(memory + arrays_, arrays.data(), arrays.size() * sizeof(NormArray), stream);
  }
  cudaError_t measure(char* memory, double factor, const fnn_device_scalars& scalars, int multiprocessors,
                      cudaStream_t stream) const {
    const NormArguments a{reinterpret_cast<const NormArray*>(memory + arrays_),
                          array_count_,
                          leaf_count_,
                          factor,
                          scalars.grad_scale,
                          scalars.found_inf,
                          reinterpret_cast<SquareSum*>(memory + leaves_),
                          sums(memory),
                          total(memory),
                          reinterpret_cast<uint32_t*>(memory + counters_)};
    const int64_t resident = int64_t{multiprocessors} * kNormBlocks;
    LaunchShape shape;
    shape.grid = dim3(static_cast<unsigned>(leaf_count_ < 1 ? 1 : leaf_count_ < resident ? leaf_count_ : resident));
    shape.block = dim3(kNormThreads);
    shape.shared_bytes = kNormShared;
    return launch(measure_arrays, shape, stream, a);
  }

  double* sums(char* memory) const { return reinterpret_cast<double*>(memory + sums_); }
  SquareSum* total(char* memory) const { return reinterpret_cast<SquareSum*>(memory + total_); }
  // For the update's kernel.
  uint32_t* counter(char* memory) const { return reinterpret_cast<uint32_t*>(memory + counters_) + 1; }

 private:
  int64_t array_count_, leaf_count_;
  size_t counters_, arrays_, leaves_, sums_, total_;
};

// Appends an array; returns the leaves so far.
int64_t add_array(std::vector<NormArray>& arrays, const Stream& stream, int64_t count, int64_t leaves) {
  arrays.push_back({device_stream(stream), count, leaves});
  return leaves + (count + kNormLeaf - 1) / kNormLeaf;
}

cudaError_t multiprocessors_of_current(int* count) {
  int device = 0;
  if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return e;
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

bool same(const Stream& a, const Stream& b) { return a.data == b.data && a.dtype == b.dtype; }

bool same(const OptimizerTensor& a, const OptimizerTensor& b) {
  bool all = a.count == b.count && same(a.param, b.param) && same(a.grad, b.grad) && same(a.ema, b.ema) &&
             same(a.low_precision_copy, b.low_precision_copy);
  for (int s = 0; s < kMaxStates; ++s) {
    all = all && same(a.states[s], b.states[s]) && a.state_scales[s] == b.state_scales[s];
  }
  return all;
}

}  // namespace
}  // namespace FNN_UNIT

struct CudaOptimizerList {
 public:
  cudaError_t step(const OptimizerStep& p, const fnn_device_scalars& scalars, cudaStream_t stream) {
    int multiprocessors = 0;
    if (const cudaError_t e = multiprocessors_of_current(&multiprocessors); e != cudaSuccess) return e;
    StreamPlace place;
    if (const cudaError_t e = StreamPlace::of(stream, &place); e != cudaSuccess) return e;
    if (memory_.leave_other_streams(place)) uploaded_.clear();
    if (const cudaError_t e = refresh(p, place); e != cudaSuccess) {
      uploaded_.clear();
      return e;
    }
    const bool measured = p.max_norm_each < HUGE_VAL || p.max_norm < HUGE_VAL || p.skip_nonfinite;
    if (measured) {
      const cudaError_t e = norms_.measure(memory_.data(), 1.0 / p.grad_scale, scalars, multiprocessors, stream);
      if (e != cudaSuccess) return e;
    }
    UpdateArguments a{};
    a.step = p;
    a.tensors = reinterpret_cast<const TensorRecord*>(memory_.data() + records_);
    a.tensor_count = p.tensor_count;
    a.chunk_count = chunks_;
    a.first_tensor_step = p.tensors[0].step;
    a.uses_random_bits = p.stochastic_rounding || has_codes_;
    a.scalars = scalars;
    a.norms = measured ? norms_.sums(memory_.data()) : nullptr;
    a.total = measured ? norms_.total(memory_.data()) : nullptr;
    a.finished = norms_.counter(memory_.data());
    const LaunchUpdate* launches = p.in_double ? launch_update_in_double : launch_update_in_float;
    return launches[p.kind](a, multiprocessors, stream);
  }

 private:
  // Whether the tables on the device are those of this step by the time that it is done.
  bool is_current(const OptimizerStep& p, const StreamPlace& place) const {
    if (static_cast<int64_t>(uploaded_.size()) != p.tensor_count) return false;
    if (uploaded_in_ != 0 && uploaded_in_ != place.capture_id) return false;
    const int64_t ahead = p.tensors[0].step - uploaded_[0].step;
    for (int64_t i = 0; i < p.tensor_count; ++i) {
      const OptimizerTensor& old = uploaded_[static_cast<size_t>(i)];
      if (!same(p.tensors[i], old) || p.tensors[i].step - old.step != ahead) return false;
    }
    return true;
  }

  cudaError_t refresh(const OptimizerStep& p, const StreamPlace& place) {
    if (is_current(p, place)) return memory_.require(bytes_, false, place);
    uploaded_.assign(p.tensors, p.tensors + p.tensor_count);
    uploaded_in_ = place.capture_id;
    std::vector<TensorRecord> records;
    std::vector<NormArray> arrays;
    records.reserve(uploaded_.size());
    arrays.reserve(uploaded_.size());
    int64_t leaves = 0;
    chunks_ = 0;
    has_codes_ = false;
    for (const OptimizerTensor& t : uploaded_) {
      records.push_back(tensor_record(t, chunks_, uploaded_[0].step));
      chunks_ += (t.count + kChunk - 1) / kChunk;
      leaves = add_array(arrays, t.grad, t.count, leaves);
      for (const void* scales : t.state_scales) has_codes_ = has_codes_ || scales != nullptr;
    }
    Parts parts;
    norms_ = NormRoom(parts, p.tensor_count, leaves);
    records_ = parts.add<TensorRecord>(p.tensor_count);
    bytes_ = parts.bytes();
    if (const cudaError_t e = memory_.require(bytes_, true, place); e != cudaSuccess) return e;
    if (const cudaError_t e = norms_.prepare(memory_.data(), arrays, place.stream); e != cudaSuccess) return e;
    return upload(memory_.data() + records_, records.data(), records.size() * sizeof(TensorRecord), place.stream);
  }

  std::vector<OptimizerTensor> uploaded_;
  // The capture that recorded the upload, which is done when its graph is launched, if ever; 0: it was done at once.
  unsigned long long uploaded_in_ = 0;
  KeptMemory memory_;
  Parts empty_;
  NormRoom norms_{empty_, 0, 0};
  size_t records_ = 0, bytes_ = 0;
  int64_t chunks_ = 0;
  bool has_codes_ = false;
};

inline namespace FNN_UNIT {

cudaError_t optimizer_step(const OptimizerStep& p, const fnn_device_scalars& scalars, cudaStream_t stream,
                           CudaOptimizerList** list) {
  try {
    if (*list == nullptr) *list = new CudaOptimizerList;
    return (*list)->step(p, scalars, stream);
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
}

void optimizer_list_destroy(CudaOptimizerList* list) { delete list; }

cudaError_t squared_norms(const SquaredNorms& p, cudaStream_t stream) {
  try {
    int multiprocessors = 0;
    if (const cudaError_t e = multiprocessors_of_current(&multiprocessors); e != cudaSuccess) return e;
    std::vector<NormArray> arrays;
    arrays.reserve(static_cast<size_t>(p.array_count));
    int64_t leaves = 0;
    for (int64_t i = 0; i < p.array_count; ++i) {
      leaves = add_array(arrays, p.arrays[i].stream, p.arrays[i].count, leaves);
    }
    Parts parts;
    const NormRoom room(parts, p.array_count, leaves);
    KeptMemory memory;
    StreamPlace place;
    if (const cudaError_t e = StreamPlace::of(stream, &place); e != cudaSuccess) return e;
    if (const cudaError_t e = memory.require(parts.bytes(), true, place); e != cudaSuccess) return e;
    if (const cudaError_t e = room.prepare(memory.data(), arrays, stream); e != cudaSuccess) return e;
    if (const cudaError_t e = room.measure(memory.data(), 1.0, {}, multiprocessors, stream); e != cudaSuccess) return e;
    const size_t bytes = static_cast<size_t>(p.array_count) * sizeof(double);
    const cudaError_t e = cudaMemcpyAsync(p.sums, room.sums(memory.data()), bytes, cudaMemcpyDeviceToHost, stream);
    return e != cudaSuccess ? e : cudaStreamSynchronize(stream);
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
