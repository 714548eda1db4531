// BatchNorm on a GPU: from a checked problem to launches. One storage type per .cu file (batch_norm_<dtype>.cu).
#pragma once

#include "cuda/batch_norm_columns.cuh"
#include "cuda/batch_norm_kernels.cuh"
#include "cuda/batch_norm_runs.cuh"
#include "cuda/batch_norm_schedule.h"
#include "cuda/device.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Blocks of a grid that does not depend on the device.
inline dim3 grid_of(int64_t tasks) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  return dim3(static_cast<unsigned>(tasks < kMost ? tasks : kMost));
}

constexpr int64_t padded(int64_t bytes) { return (bytes + 255) / 256 * 256; }

template <class Pass>
class Call {
 public:
  using Geometry = typename Pass::Geometry;
  using C = typename Pass::C;
  using Kernel = void (*)(Work<Geometry>);

  Call(const BatchNorm& p, Device& device)
      : device_(device), geometry_(p), work_{p, geometry_, {}, 1, {}, 0, 0, 0, 0, {}} {
    const int64_t leaves = elements() > 0 ? geometry_.leaves() : 0;
    work_.leaves_per_part = leaves_per_part(geometry_.strips(), leaves, geometry_.fold());
    work_.parts.parts = (leaves + work_.leaves_per_part - 1) / work_.leaves_per_part;
    work_.parts.width = geometry_.width();
    work_.parts.channels = p.channels;
    work_.parts.fold = geometry_.fold();
    work_.strips_per_unit = geometry_.fold() == 1 ? 1 : geometry_.strips();
    work_.units = work_.strips_per_unit > 0 ? geometry_.strips() / work_.strips_per_unit : 0;
  }

  // A reduction, its results, and the map that follows.
  cudaError_t reduce_and_map() {
    const ResidentSchedule schedule = choose();
    if (schedule.fits) return run_resident(schedule);
    if (const cudaError_t e = allocate(0, true); e != cudaSuccess) return e;
    if (const cudaError_t e = reduce<false>(); e != cudaSuccess) return e;
    return map();
  }

  cudaError_t reduce_only() {
    if (const cudaError_t e = allocate(0, false); e != cudaSuccess) return e;
    return reduce<false>();
  }

  // The map does not wait for the sums: one pass does both.
  cudaError_t reduce_and_map_at_once() {
    if (const cudaError_t e = allocate(0, false); e != cudaSuccess) return e;
    return reduce<true>();
  }

  cudaError_t map_only(bool from_sums) {
    work_.means.from_sums = from_sums;
    return map();
  }

  ResidentSchedule choose() const {
    constexpr double kReads = Pass::kReadsGrad ? 2.0 : 1.0;
    if (work_.leaves_per_part != 1) return {};
    const ResidentProblem problem{
        work_.units, work_.strips_per_unit * work_.parts.parts, kLeafBytes, kShared, kReads + 1.0, 2.0 * kReads + 1.0};
    return choose_schedule(problem, device_.limits());
  }

 private:
  static constexpr int64_t kShared = (sizeof(LeafMemory<Geometry>) + 127) / 128 * 128;

  int64_t elements() const { return work_.p.outer * work_.p.channels * work_.p.inner; }

  static LaunchShape shape_of(dim3 grid, size_t shared, bool cooperative) {
    LaunchShape shape;
    shape.grid = grid;
    shape.block = dim3(kThreads);
    shape.shared_bytes = shared;
    shape.cooperative = cooperative;
    return shape;
  }
  cudaError_t start(Kernel kernel, dim3 grid, size_t shared, bool cooperative) {
    return launch(kernel, shape_of(grid, shared, cooperative), device_.stream(), work_);
  }

  // Workspace: what parts yield, the means of gradients, counters.
  cudaError_t allocate(int64_t counters, bool means) {
    const int64_t numbers = work_.parts.parts * work_.parts.width;
    const int64_t of_parts = padded(numbers * static_cast<int64_t>(sizeof(double)));
    const int64_t of_means = means && Pass::kReadsGrad ? padded(work_.p.channels * static_cast<int64_t>(sizeof(C))) : 0;
    const int64_t of_counters = padded(counters * static_cast<int64_t>(sizeof(uint32_t)));
    const int arrays = Pass::kReadsGrad ? 2 : 3;
    void* memory = nullptr;
    const cudaError_t e =
        device_.workspace(static_cast<size_t>(arrays * of_parts + 2 * of_means + of_counters), &memory);
    if (e != cudaSuccess) return e;
    char* at = static_cast<char*>(memory);
    work_.parts.first = reinterpret_cast<double*>(at);
    work_.parts.second = reinterpret_cast<double*>(at + of_parts);
    work_.parts.count = Pass::kReadsGrad ? nullptr : reinterpret_cast<double*>(at + 2 * of_parts);
    at += arrays * of_parts;
    if (of_means > 0) work_.means = {at, at + of_means, false};
    work_.counters = reinterpret_cast<uint32_t*>(at + 2 * of_means);
    return counters > 0 ? cudaMemsetAsync(work_.counters, 0, static_cast<size_t>(of_counters), device_.stream())
                        : cudaSuccess;
  }

  template <bool kMaps>
  cudaError_t reduce() {
    const int64_t tasks = geometry_.strips() * work_.parts.parts;
    if (tasks > 0) {
      const cudaError_t e = start(reduce_parts<Pass, kMaps>, grid_of(tasks), kShared, false);
      if (e != cudaSuccess) return e;
    }
    constexpr int kLanes = kMergingLanes<Geometry>;
    constexpr int64_t kChannels = kThreads / kLanes;
    if (work_.p.channels == 0) return cudaSuccess;
    const dim3 grid = grid_of((work_.p.channels + kChannels - 1) / kChannels);
    return launch(finish_channels<typename Pass::Total, C, kLanes>, shape_of(grid, 0, false), device_.stream(), work_.p,
                  work_.parts, static_cast<C*>(const_cast<void*>(work_.means.mean_grad)),
                  static_cast<C*>(const_cast<void*>(work_.means.slope_grad)));
  }

  cudaError_t map() {
    if (elements() == 0) return cudaSuccess;
    return start(map_leaves<Pass>, grid_of(geometry_.strips() * geometry_.leaves()), kShared, false);
  }

  cudaError_t run_resident(const ResidentSchedule& schedule) {
    const bool together = schedule.group > 1;
    if (const cudaError_t e = allocate(together ? schedule.groups : 0, false); e != cudaSuccess) return e;
    work_.group = static_cast<uint32_t>(schedule.group);
    work_.leaves_per_block = schedule.leaves_per_block;
    const dim3 grid(static_cast<unsigned>(schedule.group * schedule.groups));
    return start(resident<Pass>, grid, schedule.shared_bytes, together);
  }

  Device& device_;
  Geometry geometry_;
  Work<Geometry> work_;
};

// The functions of one storage type.
template <class T>
struct BatchNormOf {
  template <int kArrays, class Run>
  static cudaError_t with_geometry(const BatchNorm& p, const Run& run) {
    return p.inner == 1 ? run(static_cast<Columns<T, kArrays>*>(nullptr))
                        : run(static_cast<Runs<T, kArrays>*>(nullptr));
  }

  template <class Geometry>
  using Forward = ForwardPass<Geometry>;
  template <class Geometry, class From>
  using Backward = BackwardPass<Geometry, From, GradInput<Compute<T>, From>>;
  template <class Geometry>
  using Frozen = BackwardPass<Geometry, FromInput, FrozenGradInput<Compute<T>>>;

  static cudaError_t forward(const BatchNorm& p, Device& d) {
    return with_geometry<1>(p,
                            [&]<class Geometry>(Geometry*) { return Call<Forward<Geometry>>(p, d).reduce_and_map(); });
  }
  static cudaError_t backward(const BatchNorm& p, Device& d) {
    return with_geometry<2>(
        p, [&]<class Geometry>(Geometry*) { return Call<Backward<Geometry, FromInput>>(p, d).reduce_and_map(); });
  }
  static cudaError_t backward_from_output(const BatchNorm& p, Device& d) {
    return with_geometry<2>(
        p, [&]<class Geometry>(Geometry*) { return Call<Backward<Geometry, FromOutput>>(p, d).reduce_and_map(); });
  }
  static cudaError_t inference_backward(const BatchNorm& p, Device& d) {
    return with_geometry<2>(
        p, [&]<class Geometry>(Geometry*) { return Call<Frozen<Geometry>>(p, d).reduce_and_map_at_once(); });
  }
  static cudaError_t statistics(const BatchNorm& p, Device& d) {
    return with_geometry<1>(p, [&]<class Geometry>(Geometry*) { return Call<Forward<Geometry>>(p, d).reduce_only(); });
  }
  // Also batch_norm_inference.
  static cudaError_t apply(const BatchNorm& p, Device& d) {
    return with_geometry<1>(p,
                            [&]<class Geometry>(Geometry*) { return Call<Forward<Geometry>>(p, d).map_only(false); });
  }
  static cudaError_t backward_reduce(const BatchNorm& p, Device& d) {
    return with_geometry<2>(
        p, [&]<class Geometry>(Geometry*) { return Call<Backward<Geometry, FromInput>>(p, d).reduce_only(); });
  }
  static cudaError_t backward_apply(const BatchNorm& p, Device& d) {
    return with_geometry<2>(
        p, [&]<class Geometry>(Geometry*) { return Call<Backward<Geometry, FromInput>>(p, d).map_only(true); });
  }

  static constexpr BatchNormFunctions functions{forward, backward,           backward_from_output,
                                                apply,   inference_backward, statistics,
                                                apply,   backward_reduce,    backward_apply};
};

}  // namespace FNN_UNIT
}  // namespace fusednn
