// BatchNorm between two passes: what the parts of a reduction make, for all channels. One kernel for all storage types that
// are computed alike, and for both geometries.
#include "cuda/batch_norm_channels.cuh"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

constexpr int kThreads = 256;

// Results, and what the map needs, from the parts of all channels.
template <class Total, class C>
FNN_KERNEL(kThreads, 1)
finish_channels(const __grid_constant__ BatchNorm p, const __grid_constant__ Parts parts, int lanes, C* mean_grad,
                C* slope_grad) {
  const int64_t channels = kThreads / lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  for (int64_t first = blockIdx.x * channels; first < p.channels; first += gridDim.x * channels) {
    const int64_t channel = first + threadIdx.x / lanes;
    const bool exists = channel < p.channels;
    const Total total = merged(parts, exists ? channel : first, lane, lanes, Total{});
    if (!exists || lane != 0) continue;
    const Channel<C> k = finished<C>(p, channel, total, true);
    put_number<C>(mean_grad, channel, static_cast<double>(k.mean_grad));
    put_number<C>(slope_grad, channel, static_cast<double>(k.slope_grad));
  }
}

template <class Total, class C>
cudaError_t launch_finish(const BatchNorm& p, const Parts& parts, int lanes, const GradMeans& means,
                          cudaStream_t stream) {
  constexpr int64_t kMostBlocks = (int64_t{1} << 31) - 1;
  const int64_t blocks = (p.channels + kThreads / lanes - 1) / (kThreads / lanes);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
  shape.block = dim3(kThreads);
  return launch(finish_channels<Total, C>, shape, stream, p, parts, lanes,
                static_cast<C*>(const_cast<void*>(means.mean_grad)),
                static_cast<C*>(const_cast<void*>(means.slope_grad)));
}

}  // namespace

template <class Total>
cudaError_t finish_batch_norm(const BatchNorm& p, const Parts& parts, int lanes, const GradMeans& means,
                              cudaStream_t stream) {
  if (p.channels == 0) return cudaSuccess;
  return p.dtype == DType::kFloat64 ? launch_finish<Total, double>(p, parts, lanes, means, stream)
                                    : launch_finish<Total, float>(p, parts, lanes, means, stream);
}
template cudaError_t finish_batch_norm<Moments>(const BatchNorm&, const Parts&, int, const GradMeans&, cudaStream_t);
template cudaError_t finish_batch_norm<TwoSums>(const BatchNorm&, const Parts&, int, const GradMeans&, cudaStream_t);

}  // namespace FNN_UNIT
}  // namespace fusednn
