// Few rows of very many channels (inner == 1): the numbers of the channels are more than the elements, and going over all
// channels once for each pass would take them through memory each time. Here a strip of channels goes through all passes
// at once, as a problem of its own whose rows lie apart, in one thread and its cache. No result depends on the strips.
#pragma once

#include "cpu/geometry_columns.h"
#include "cpu/parallel.h"

namespace fusednn {
inline namespace FNN_UNIT {

// Channels of a strip: what is read and written of them, tables and partial sums included, fits an L2 cache.
FNN_INLINE int64_t strip_width(const BatchNorm& p) {
  constexpr int64_t kElements = 1 << 14;
  constexpr int64_t kWidest = 2048;
  const int64_t width = kElements / (p.outer > 0 ? p.outer : 1) / kColumnStrip * kColumnStrip;
  return width < kColumnStrip ? kColumnStrip : width > kWidest ? kWidest : width;
}

// Whether the tables would leave the cache between the passes, and strips give each thread enough to do.
FNN_INLINE bool worth_strips(const BatchNorm& p) {
  return p.inner == 1 && p.outer <= kOnePartRows && p.channels >= 32 * strip_width(p);
}

// The problem of `width` channels from `first` on.
template <class T>
inline BatchNorm strip_of(const BatchNorm& p, int64_t first, int64_t width) {
  using C = Compute<T>;
  BatchNorm strip = p;
  strip.channels = width;
  const void** const inputs[] = {&strip.x, &strip.y_in, &strip.grad};
  void** const outputs[] = {&strip.y, &strip.grad_x};
  const void** const parameters[] = {&strip.gamma, &strip.beta};
  void** const numbers[] = {&strip.mean,        &strip.inv_std,  &strip.m2,           &strip.running_mean,
                            &strip.running_var, &strip.sum_grad, &strip.sum_grad_xhat};
  for (const void** array : inputs) *array = *array == nullptr ? nullptr : element<T>(*array, first);
  for (void** array : outputs) *array = *array == nullptr ? nullptr : element<T>(*array, first);
  for (const void** array : parameters) *array = *array == nullptr ? nullptr : element<C>(*array, first);
  for (void** array : numbers) *array = *array == nullptr ? nullptr : element<C>(*array, first);
  return strip;
}

// run(strip) for all strips. False if any was.
template <class T, class Run>
inline bool in_strips(const BatchNorm& p, const Run& run) {
  const int64_t width = strip_width(p);
  bool failed = false;
  parallel(p.outer * p.channels >= kWorthThreads, (p.channels + width - 1) / width, [&](int64_t i) {
    const int64_t first = i * width;
    const int64_t left = p.channels - first;
    if (!run(strip_of<T>(p, first, left < width ? left : width))) __atomic_store_n(&failed, true, __ATOMIC_RELAXED);
  });
  return !failed;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
