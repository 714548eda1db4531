// The optimizer driver: one pass over all streams of all tensors, a block at a time.
//
// A block goes through: unscale and clip the gradient, decay, update, EMA, low-precision copy. Each step is a loop over
// the block in L1 that a uniform branch may skip, so that options cost nothing where they are off and multiply nothing.
// Memory moved: every stream once, e.g. Adam in float32 16 B read and 12 B written per parameter. max_norm and
// max_norm_each read the gradients once more, before; so does skip_nonfinite.
#pragma once

#include "core/problem.h"
#include "cpu/blocks.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/workspace.h"
#include "math/optimizer.h"

namespace fusednn {
inline namespace FNN_UNIT {

// A stream's block as an array of C, in place where it can be. Streams choose their type at run time.
template <class C>
inline C* open_stream(const Stream& stream, int64_t index, int64_t n, Buffer<C>& buffer) {
  return with_dtype(stream.dtype, [&](auto tag) -> C* {
    using T = decltype(tag);
    if constexpr (sizeof(Compute<T>) != sizeof(C)) {
      // A float32 or shorter gradient of a float64 parameter is refused by core/.
      return buffer.data;
    } else {
      char* p = element<T>(stream.data, index);
      if (direct<T, C>(p)) return reinterpret_cast<C*>(p);
      convert_in<T>(stream.data, index, n, buffer.data);
      return buffer.data;
    }
  });
}

template <class C>
inline void close_stream(const Stream& stream, int64_t index, int64_t n, const C* block) {
  with_dtype(stream.dtype, [&](auto tag) {
    using T = decltype(tag);
    if constexpr (sizeof(Compute<T>) == sizeof(C)) {
      if (reinterpret_cast<const char*>(block) != element<T>(stream.data, index)) {
        convert_out<T>(block, n, stream.data, index);
      }
    }
  });
}

template <class Optimizer>
constexpr int kStatesOf = sizeof(Optimizer::states) / sizeof(State);

template <class Optimizer, class C>
FNN_INLINE void update_block(const typename Optimizer::template Coefficients<C>& k, C* __restrict p,
                             const C* __restrict g, C* const* states, int64_t n) {
  constexpr int kCount = kStatesOf<Optimizer>;
  static_assert(kCount >= 1 && kCount <= 3, "widen the argument list below");
  C* __restrict s0 = states[0];
  C* __restrict s1 = states[kCount > 1 ? 1 : 0];
  C* __restrict s2 = states[kCount > 2 ? 2 : 0];
  for (int64_t i = 0; i < n; ++i) {
    C s[3] = {s0[i], kCount > 1 ? s1[i] : C(0), kCount > 2 ? s2[i] : C(0)};
    Optimizer::update(k, p[i], g[i], s);
    s0[i] = s[0];
    if constexpr (kCount > 1) s1[i] = s[1];
    if constexpr (kCount > 2) s2[i] = s[2];
  }
}

// The clip by norm of one tensor, or of all: computed before the update.
template <class C>
inline CommonCoefficients<C> common_coefficients(const OptimizerStep& p, double clip_factor, int64_t step) {
  CommonCoefficients<C> k;
  k.grad_factor = C(clip_factor / p.grad_scale * (p.maximize ? -1.0 : 1.0));
  k.clip_value = C(p.clip_value);
  k.l2 = p.decoupled_weight_decay ? C(0) : C(p.weight_decay);
  k.decay = p.decoupled_weight_decay ? C(p.hyperparameters[0] * p.weight_decay) : C(0);
  // The average starts as a copy of the first parameters.
  k.ema_momentum = step == first_step(p.convention) ? C(0) : C(p.ema_momentum);
  k.changes_gradient = k.grad_factor != C(1) || p.clip_value < HUGE_VAL || k.l2 != C(0);
  return k;
}

template <class Optimizer, class C>
inline void update_range(const OptimizerTensor& t, const CommonCoefficients<C>& common,
                         const typename Optimizer::template Coefficients<C>& own, int64_t begin, int64_t end) {
  Buffer<C> param_buffer;
  Buffer<C> grad_buffer;
  Buffer<C> ema_buffer;
  Buffer<C> state_buffers[kStatesOf<Optimizer>];
  // A state that is not needed is computed in its buffer and dropped; zeros keep that from being slow.
  const int64_t used = end - begin < kBlock ? end - begin : kBlock;
  for (int s = 0; s < kStatesOf<Optimizer>; ++s) {
    if (t.states[s].data == nullptr) {
      __builtin_memset(state_buffers[s].data, 0, static_cast<size_t>(used) * sizeof(C));
    }
  }
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t n = end - i < kBlock ? end - i : kBlock;
    C* param = open_stream<C>(t.param, i, n, param_buffer);
    const C* grad = open_stream<C>(t.grad, i, n, grad_buffer);
    C* states[kStatesOf<Optimizer>];
    for (int s = 0; s < kStatesOf<Optimizer>; ++s) {
      states[s] =
          t.states[s].data == nullptr ? state_buffers[s].data : open_stream<C>(t.states[s], i, n, state_buffers[s]);
    }
    if (common.changes_gradient) {
#pragma GCC ivdep
      for (int64_t k = 0; k < n; ++k) grad_buffer.data[k] = prepared_gradient(common, grad[k], param[k]);
      grad = grad_buffer.data;
    }
    if (common.decay != C(0)) {
      for (int64_t k = 0; k < n; ++k) param[k] = decayed(common, param[k]);
    }
    update_block<Optimizer, C>(own, param, grad, states, n);
    if (t.ema.data != nullptr) {
      C* ema = open_stream<C>(t.ema, i, n, ema_buffer);
#pragma GCC ivdep
      for (int64_t k = 0; k < n; ++k) ema[k] = ema_updated(common, ema[k], param[k]);
      close_stream(t.ema, i, n, ema);
    }
    if (t.low_precision_copy.data != nullptr) close_stream(t.low_precision_copy, i, n, param);
    close_stream(t.param, i, n, param);
    for (int s = 0; s < kStatesOf<Optimizer>; ++s) {
      if (t.states[s].data != nullptr) close_stream(t.states[s], i, n, states[s]);
    }
  }
}

// The list as one flat range, cut into pieces of equal work: f(tensor, begin, end) for the pieces of each task.
template <class F>
inline void for_flat_range(const OptimizerStep& p, const F& f) {
  constexpr int64_t kTask = 32 * kBlock;
  const int64_t tasks = p.total >= kWorthThreads ? (p.total + kTask - 1) / kTask : 1;
  parallel(tasks > 1, tasks, [&](int64_t task) {
    int64_t begin = tasks == 1 ? 0 : task * kTask;
    int64_t left = tasks == 1 || p.total - begin < kTask ? p.total - begin : kTask;
    int64_t tensor = 0;
    while (tensor < p.tensor_count && begin >= p.tensors[tensor].count) begin -= p.tensors[tensor++].count;
    while (left > 0) {
      const int64_t available = p.tensors[tensor].count - begin;
      const int64_t n = left < available ? left : available;
      if (n > 0) f(tensor, begin, begin + n);
      left -= n;
      begin = 0;
      ++tensor;
    }
  });
}

// Sums of squares in leaves of fixed size, added in index order, and whether all elements are finite.
constexpr int64_t kNormLeaf = 4096;

struct NormLeaf {
  int64_t array, begin;
  double sum;
  bool finite;
};

// Of the elements times `factor`, as the update will see them: that product may overflow. Their squares are taken in
// double, where those of floats cannot.
template <class C>
inline void measure(const Stream& stream, int64_t end, C factor, NormLeaf& leaf) {
  // An infinity or a NaN times zero is NaN, anything else zero.
  const auto add = [](auto e, auto, auto& squares, auto& zero) {
    squares += e * e;
    zero += e * decltype(e){};
  };
  TwoSums total{0.0, 0.0};
  Buffer<C> buffer;
  double scaled[kBlock];
  for (int64_t i = leaf.begin; i < end; i += kBlock) {
    const int64_t n = end - i < kBlock ? end - i : kBlock;
    const C* block = open_stream<C>(stream, i, n, buffer);
    for (int64_t k = 0; k < n; ++k) scaled[k] = static_cast<double>(C(block[k] * factor));
    LaneSums<double> sums;
    sums.add_run(scaled, scaled, n, add);
    total.first += sums.total().first;
    total.second += sums.total().second;
  }
  leaf.sum = total.first;
  leaf.finite = total.second == 0.0;
}

enum class Measured { kFinite, kNonFinite, kNoWorkspace };

// array(i) is the i-th stream and its length.
template <class Array>
inline Measured squared_norms(int64_t arrays, const Array& array, double factor, double* sums) {
  int64_t leaves = 0;
  int64_t total = 0;
  for (int64_t a = 0; a < arrays; ++a) {
    leaves += (array(a).count + kNormLeaf - 1) / kNormLeaf;
    total += array(a).count;
  }
  auto* leaf = static_cast<NormLeaf*>(workspace(static_cast<size_t>(leaves + 1) * sizeof(NormLeaf)));
  if (leaf == nullptr) return Measured::kNoWorkspace;
  int64_t at = 0;
  for (int64_t a = 0; a < arrays; ++a) {
    for (int64_t begin = 0; begin < array(a).count; begin += kNormLeaf) leaf[at++] = {a, begin, 0.0, true};
  }
  constexpr int64_t kGroup = 8;
  parallel(total >= kWorthThreads, (leaves + kGroup - 1) / kGroup, [&](int64_t group) {
    for (int64_t l = group * kGroup; l < (group + 1) * kGroup && l < leaves; ++l) {
      const SquaredNorms::Array of = array(leaf[l].array);
      const int64_t end = leaf[l].begin + kNormLeaf < of.count ? leaf[l].begin + kNormLeaf : of.count;
      if (of.stream.dtype == DType::kFloat64) {
        measure<double>(of.stream, end, factor, leaf[l]);
      } else {
        measure<float>(of.stream, end, static_cast<float>(factor), leaf[l]);
      }
    }
  });
  bool finite = true;
  for (int64_t a = 0; a < arrays; ++a) sums[a] = 0.0;
  for (int64_t l = 0; l < leaves; ++l) {
    sums[leaf[l].array] += leaf[l].sum;
    finite = finite && leaf[l].finite;
  }
  return finite ? Measured::kFinite : Measured::kNonFinite;
}

inline double clip_factor(double norm, double limit, int32_t convention) {
  const double factor = limit / (norm + norm_epsilon(convention));
  return factor < 1.0 ? factor : (norm != norm ? norm : 1.0);
}

template <class Optimizer, class C>
bool optimizer_step_of(const OptimizerStep& p, bool* stepped) {
  const bool each = p.max_norm_each < HUGE_VAL;
  const bool all = p.max_norm < HUGE_VAL;
  double factor = 1.0;
  *stepped = true;
  if (each || all || p.skip_nonfinite) {
    const auto grad = [&p](int64_t i) { return SquaredNorms::Array{p.tensors[i].grad, p.tensors[i].count}; };
    const Measured measured = squared_norms(p.tensor_count, grad, 1.0 / p.grad_scale, p.norms);
    if (measured == Measured::kNoWorkspace) return false;
    *stepped = !p.skip_nonfinite || measured == Measured::kFinite;
    if (!*stepped) return true;
    double squares = 0.0;
    for (int64_t i = 0; i < p.tensor_count; ++i) squares += p.norms[i];
    if (all) factor = clip_factor(sqrt(squares), p.max_norm, p.convention);
  }
  // Most lists have one step number, and small arrays cost less than the powers of beta.
  using Own = typename Optimizer::template Coefficients<C>;
  const auto prepare = [&p](int64_t step) {
    return Optimizer::template prepare<C>(p.hyperparameters, Convention(p.convention), step);
  };
  const int64_t first_step = p.tensors[0].step;
  const Own first = prepare(first_step);
  for_flat_range(p, [&](int64_t i, int64_t begin, int64_t end) {
    const OptimizerTensor& t = p.tensors[i];
    const double own_factor = each ? clip_factor(sqrt(p.norms[i]), p.max_norm_each, p.convention) : factor;
    const auto common = common_coefficients<C>(p, own_factor, t.step);
    const Own own = t.step == first_step ? first : prepare(t.step);
    update_range<Optimizer, C>(t, common, own, begin, end);
  });
  return true;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
