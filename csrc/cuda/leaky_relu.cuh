// leaky_relu and its backward pass, element by element: y = z where z > 0, else negative_slope * z; grad_x = grad where
// x > 0, else negative_slope * grad. Any layout: arrays are dense and lie alike. 1R + 1W, backward 2R + 1W.
#pragma once

#include "core/problem.h"
#include "cuda/vectors.cuh"
#include "math/activation.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int kMapThreads = 256;
// Windows of a thread, all read before the first is computed.
constexpr int kMapWindows = 4;

template <class C>
struct LeakyReluArguments {
  int64_t count;
  C negative_slope;
  const void* grad;
  const void* x;
  void* out;  // may be `x` or `grad`: an element is read and written by one thread
};

// The windows of a thread: lanes of a warp have those that lie side by side.
template <class T>
struct MapWindows {
  int64_t begin, count;

  FNN_DEVICE int64_t first() const { return begin; }
  FNN_DEVICE Window at(int64_t index) const { return {index, elements_within<T>(0, count - index)}; }
  FNN_DEVICE void advance(int64_t& index) const { index += kMapThreads * kPerVector<T>; }
};

// Applies f(grad, x) to each element of the windows.
template <class T, class F>
FNN_DEVICE void map_windows(const Bytes16 (&grad)[kMapWindows], const Bytes16 (&x)[kMapWindows],
                            Bytes16 (&out)[kMapWindows], const F& f) {
#pragma unroll
  for (int i = 0; i < kMapWindows; ++i) {
#pragma unroll
    for (int g = 0; g < kGroups<T>; ++g) {
      Compute<T> grads[kTogether<T>], values[kTogether<T>];
      unpack<T>(grad[i], g, grads);
      unpack<T>(x[i], g, values);
#pragma unroll
      for (int j = 0; j < kTogether<T>; ++j) values[j] = f(grads[j], values[j]);
      pack<T>(out[i], g, values);
    }
  }
}

template <class T, bool kBackward>
FNN_KERNEL(kMapThreads, 4)
map_leaky_relu(const __grid_constant__ LeakyReluArguments<Compute<T>> a) {
  const int64_t window = static_cast<int64_t>(blockIdx.x) * kMapThreads * kMapWindows + threadIdx.x;
  const MapWindows<T> windows{window * kPerVector<T>, a.count};
  const Compute<T> slope = a.negative_slope;
  const Array<T> x(a.x, a.count, false);
  Bytes16 out[kMapWindows];
  if constexpr (kBackward) {
    const Array<T> both[2] = {Array<T>(a.grad, a.count, false), x};
    Bytes16 in[2][kMapWindows];
    read_windows(both, windows, true, false, in);
    map_windows<T>(in[0], in[1], out, [slope](auto g, auto z) { return leaky_relu_grad(g, z, slope); });
  } else {
    const Array<T> one[1] = {x};
    Bytes16 in[1][kMapWindows];
    read_windows(one, windows, true, false, in);
    map_windows<T>(in[0], in[0], out, [slope](auto, auto z) { return leaky_relu(z, slope); });
  }
  write_windows(Array<T>(a.out, a.count, false), windows, out);
}

template <class T>
cudaError_t leaky_relu_of(const LeakyRelu& p, cudaStream_t stream) {
  if (p.count == 0) return cudaSuccess;
  using C = Compute<T>;
  const LeakyReluArguments<C> arguments{p.count, static_cast<C>(p.negative_slope), p.grad, p.x, p.out};
  constexpr int64_t kPerBlock = int64_t{kMapThreads} * kMapWindows * kPerVector<T>;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((p.count + kPerBlock - 1) / kPerBlock));
  shape.block = dim3(kMapThreads);
  return launch(p.grad == nullptr ? map_leaky_relu<T, false> : map_leaky_relu<T, true>, shape, stream, arguments);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
