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

  Call(const BatchNorm& p, Device& device)
      : device_(device),
        geometry_(p),
        work_{p, geometry_, {}, 1, {}, Way::kMap, 0, Divisor(0), Divisor(geometry_.leaves()), 1, 1, nullptr} {
    const int64_t leaves = elements() > 0 ? geometry_.leaves() : 0;
    work_.leaves_per_part = leaves_per_part(geometry_.strips(), leaves, geometry_.fold());
    work_.parts.parts = (leaves + work_.leaves_per_part - 1) / work_.leaves_per_part;
    work_.parts.width = geometry_.width();
    work_.parts.channels = p.channels;
    work_.parts.fold = geometry_.fold();
    strips_per_unit_ = geometry_.fold() == 1 ? 1 : geometry_.strips();
  }

  // A reduction, its results, and the map that follows.
  cudaError_t reduce_and_map() {
    const ResidentSchedule schedule = choose();
    if (schedule.fits) return run_resident(schedule);
    if (const cudaError_t e = allocate(0, true); e != cudaSuccess) return e;
    if (const cudaError_t e = reduce(Way::kReduce); e != cudaSuccess) return e;
    return map();
  }

  cudaError_t reduce_only() {
    if (const cudaError_t e = allocate(0, false); e != cudaSuccess) return e;
    return reduce(Way::kReduce);
  }

  // The map does not wait for the sums: one pass does both.
  cudaError_t reduce_and_map_at_once() {
    if (const cudaError_t e = allocate(0, false); e != cudaSuccess) return e;
    return reduce(Way::kReduceAndMap);
  }

  cudaError_t map_only(bool from_sums) {
    work_.means.from_sums = from_sums;
    return map();
  }

  ResidentSchedule choose() const {
    constexpr double kReads = Pass::kReadsGrad ? 2.0 : 1.0;
    if (work_.leaves_per_part != 1) return {};
    const ResidentProblem problem{
        units(), strips_per_unit_ * work_.parts.parts, kLeafBytes, kShared, kReads + 1.0, 2.0 * kReads + 1.0};
    return choose_schedule(problem, device_.limits());
  }

 private:
  static constexpr int64_t kShared = (sizeof(LeafMemory<Geometry>) + 127) / 128 * 128;

  int64_t elements() const { return work_.p.outer * work_.p.channels * work_.p.inner; }

  int64_t units() const { return strips_per_unit_ > 0 ? geometry_.strips() / strips_per_unit_ : 0; }

  static LaunchShape shape_of(dim3 grid, size_t shared, bool cooperative) {
    LaunchShape shape;
    shape.grid = grid;
    shape.block = dim3(kThreads);
    shape.shared_bytes = shared;
    shape.cooperative = cooperative;
    return shape;
  }
  // A task for each of `down` runs of leaves in each strip.
  cudaError_t over_strips(Way way, int64_t down, int64_t leaves_per_task) {
    work_.way = way;
    work_.across = Divisor(geometry_.strips());
    work_.tasks = geometry_.strips() * down;
    work_.strips_per_task = 1;
    work_.leaves_per_task = leaves_per_task;
    const LaunchShape shape = shape_of(grid_of(work_.tasks), kShared, false);
    return launch(pass_over_leaves<Pass>, shape, device_.stream(), work_);
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

  cudaError_t reduce(Way way) {
    if (geometry_.strips() > 0 && work_.parts.parts > 0) {
      const cudaError_t e = over_strips(way, work_.parts.parts, work_.leaves_per_part);
      if (e != cudaSuccess) return e;
    }
    return finish_batch_norm<typename Pass::Total>(work_.p, work_.parts, kMergingLanes<Geometry>, work_.means,
                                                   device_.stream());
  }

  cudaError_t map() { return elements() == 0 ? cudaSuccess : over_strips(Way::kMap, geometry_.leaves(), 1); }

  cudaError_t run_resident(const ResidentSchedule& schedule) {
    const bool together = schedule.group > 1;
    if (const cudaError_t e = allocate(together ? schedule.groups : 0, false); e != cudaSuccess) return e;
    work_.way = Way::kResident;
    work_.across = Divisor(units());
    work_.tasks = units();
    work_.strips_per_task = strips_per_unit_;
    work_.leaves_per_task = schedule.leaves_per_block;
    const dim3 grid(static_cast<unsigned>(schedule.groups), static_cast<unsigned>(schedule.group));
    const LaunchShape shape = shape_of(grid, schedule.shared_bytes, together);
    return launch(pass_over_leaves<Pass>, shape, device_.stream(), work_);
  }

  Device& device_;
  Geometry geometry_;
  int64_t strips_per_unit_;
  Work<Geometry> work_;
};

// The functions of one storage type.
template <class T>
struct BatchNormOf {
  // The passes over the leaves: run(call) for the geometry's.
  template <class Run>
  static cudaError_t forward_pass(const BatchNorm& p, Device& d, const Run& run) {
    if (p.inner == 1) return run(Call<ForwardPass<Columns<T, 1>>>(p, d));
    return run(Call<ForwardPass<Runs<T, 1>>>(p, d));
  }
  template <class Run>
  static cudaError_t backward_pass(const BatchNorm& p, Device& d, const Run& run) {
    if (p.inner == 1) return run(Call<BackwardPass<Columns<T, 2>>>(p, d));
    return run(Call<BackwardPass<Runs<T, 2>>>(p, d));
  }

  static cudaError_t forward(const BatchNorm& p, Device& d) {
    return forward_pass(p, d, [](auto call) { return call.reduce_and_map(); });
  }
  // Also backward_from_output.
  static cudaError_t backward(const BatchNorm& p, Device& d) {
    return backward_pass(p, d, [](auto call) { return call.reduce_and_map(); });
  }
  static cudaError_t inference_backward(const BatchNorm& p, Device& d) {
    return backward_pass(p, d, [](auto call) { return call.reduce_and_map_at_once(); });
  }
  static cudaError_t statistics(const BatchNorm& p, Device& d) {
    return forward_pass(p, d, [](auto call) { return call.reduce_only(); });
  }
  // Also batch_norm_inference.
  static cudaError_t apply(const BatchNorm& p, Device& d) {
    return forward_pass(p, d, [](auto call) { return call.map_only(false); });
  }
  static cudaError_t backward_reduce(const BatchNorm& p, Device& d) {
    return backward_pass(p, d, [](auto call) { return call.reduce_only(); });
  }
  static cudaError_t backward_apply(const BatchNorm& p, Device& d) {
    return backward_pass(p, d, [](auto call) { return call.map_only(true); });
  }

  static constexpr BatchNormFunctions functions{
      forward, backward, backward, apply, inference_backward, statistics, apply, backward_reduce, backward_apply};
};

}  // namespace FNN_UNIT
}  // namespace fusednn
