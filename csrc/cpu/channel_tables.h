// What the two geometries of BatchNorm share: the per-channel numbers of the formulas and the partial sums of leaves.
#pragma once

#include "core/problem.h"
#include "cpu/vectors.h"
#include "cpu/workspace.h"
#include "math/batch_norm.h"

namespace fusednn {
inline namespace FNN_UNIT {

// All channels' numbers: arrays of `channels`, 64-byte aligned.
template <class C>
struct ChannelTables {
  C* mean;
  C* scale;
  C* beta;
  C* mean_grad;
  C* slope_grad;

  FNN_INLINE Channel<C> at(int64_t c) const { return {mean[c], scale[c], beta[c], mean_grad[c], slope_grad[c]}; }
  // Of the channels from c on, as many as fit into V.
  template <class V>
  FNN_INLINE Channel<V> vector(int64_t c) const {
    return {read<V>(mean + c), read<V>(scale + c), read<V>(beta + c), read<V>(mean_grad + c), read<V>(slope_grad + c)};
  }
  FNN_INLINE ChannelTables from(int64_t c) const {
    return {mean + c, scale + c, beta + c, mean_grad + c, slope_grad + c};
  }
};

// Two numbers for each part (a fixed group of leaves) of each channel: mean and m2, or two sums. [part][channel]
struct Partials {
  double* first;
  double* second;
};

template <class C>
struct Scratch {
  ChannelTables<C> tables;
  Partials partials;
  bool allocated;
};

// Tables of `length` entries, at least one per channel. They hold garbage: formulas drop what they do not use.
template <class C>
inline Scratch<C> allocate_scratch(int64_t channels, int64_t length, int64_t parts) {
  const int64_t stride = (length + 63) / 64 * 64;
  const size_t tables = 5 * static_cast<size_t>(stride) * sizeof(C);
  const size_t partials = 2 * static_cast<size_t>(channels * parts) * sizeof(double);
  char* memory = static_cast<char*>(workspace(tables + partials + 64));
  if (memory == nullptr) return {{}, {}, false};
  C* table = reinterpret_cast<C*>(memory);
  double* partial = reinterpret_cast<double*>(memory + tables);
  return {{table, table + stride, table + 2 * stride, table + 3 * stride, table + 4 * stride},
          {partial, partial + channels * parts},
          true};
}

// Repeats the first `channels` entries up to `length`.
template <class C>
inline void repeat_tables(const ChannelTables<C>& t, int64_t channels, int64_t length) {
  C* const tables[] = {t.mean, t.scale, t.beta, t.mean_grad, t.slope_grad};
  for (C* table : tables) {
    for (int64_t i = channels; i < length; ++i) table[i] = table[i - channels];
  }
}

}  // namespace FNN_UNIT
}  // namespace fusednn
