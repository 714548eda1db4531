// The optimizer driver: one pass over all streams of all tensors, a block at a time.
//
// A block goes through: unscale and clip the gradient, decay, update, EMA, low-precision copy. Each step is a loop over
// the block in L1 that a uniform branch may skip, so that options cost nothing where they are off and multiply nothing.
// Memory moved: every stream once, e.g. Adam in float32 16 B read and 12 B written per parameter, with 8-bit states 10 B
// and 6 B. max_norm and max_norm_each read the gradients once more, before; so does skip_nonfinite.
#pragma once

#include "core/problem.h"
#include "cpu/optimizer_streams.h"
#include "cpu/parallel.h"
#include "cpu/squared_norms.h"
#include "math/optimizer_common.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class Optimizer>
constexpr int kStatesOf = sizeof(Optimizer::states) / sizeof(State);

template <class Optimizer, class C>
FNN_INLINE void update_elements(const typename Optimizer::template Coefficients<C>& coefficients, C* __restrict p,
                                const C* __restrict g, C* const* states, int64_t n) {
  // A copy: no store to an element may seem to change it.
  const typename Optimizer::template Coefficients<C> k = coefficients;
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

// What updates one piece of the list after another.
template <class Optimizer, class C>
class Updater {
 public:
  // `factor` is the clip by the norm of all gradients.
  Updater(const OptimizerStep& p, double factor) : p_(p), list_factor_(factor) {}

  void update(int64_t tensor, int64_t begin, int64_t end) {
    const OptimizerTensor& t = p_.tensors[tensor];
    const bool each = p_.max_norm_each < HUGE_VAL;
    prepare(each ? clip_factor(sqrt(p_.norms[tensor]), p_.max_norm_each, p_.convention) : list_factor_, t.step);
    const Rounding rounding = rounding_of(t, tensor);
    clear_absent_states(t, end - begin < kBlock ? end - begin : kBlock);
    for (int64_t i = begin; i < end; i += kBlock) update_block(t, i, end - i < kBlock ? end - i : kBlock, rounding);
  }

 private:
  // Lists of small tensors would spend their time on coefficients if these were not kept from one tensor to the next.
  void prepare(double factor, int64_t step) {
    if (step == step_ && factor == factor_) return;
    common_ = common_coefficients<C>(p_, p_.hyperparameters[0], p_.grad_scale, factor, step);
    own_ = Optimizer::template prepare<C>(p_.hyperparameters, Convention(p_.convention), step);
    factor_ = factor;
    step_ = step;
  }

  Rounding rounding_of(const OptimizerTensor& t, int64_t tensor) const {
    bool random = p_.stochastic_rounding;
    for (const void* scales : t.state_scales) random = random || scales != nullptr;
    return {p_.stochastic_rounding, random ? tensor_key(p_.stochastic_rounding_seed, t.step, tensor) : 0};
  }

  // A state that is not needed is computed in its buffer and dropped; zeros keep that from being slow.
  void clear_absent_states(const OptimizerTensor& t, int64_t n) {
    for (int s = 0; s < kStates; ++s) {
      if (t.states[s].data == nullptr) __builtin_memset(states_[s].data, 0, static_cast<size_t>(n) * sizeof(C));
    }
  }

  void update_block(const OptimizerTensor& t, int64_t i, int64_t n, const Rounding& rounding) {
    C* param = open_stream<C>(t.param, i, n, param_);
    const C* grad = open_stream<C>(t.grad, i, n, grad_);
    C* states[kStates];
    for (int s = 0; s < kStates; ++s) states[s] = open_state(t, s, i, n);
    if (common_.changes_gradient) {
      const CommonCoefficients<C> common = common_;
      if (common.only_scales) {
#pragma GCC ivdep
        for (int64_t k = 0; k < n; ++k) grad_.data[k] = grad[k] * common.grad_factor;
      } else {
#pragma GCC ivdep
        for (int64_t k = 0; k < n; ++k) grad_.data[k] = prepared_gradient(common, grad[k], param[k]);
      }
      grad = grad_.data;
    }
    if (common_.decay != C(0)) {
      const CommonCoefficients<C> common = common_;
      for (int64_t k = 0; k < n; ++k) param[k] = decayed(common, param[k]);
    }
    update_elements<Optimizer, C>(own_, param, grad, states, n);
    if (t.ema.data != nullptr) {
      const CommonCoefficients<C> common = common_;
      C* ema = open_stream<C>(t.ema, i, n, ema_);
#pragma GCC ivdep
      for (int64_t k = 0; k < n; ++k) ema[k] = ema_updated(common, ema[k], param[k]);
      close_stream(t.ema, i, n, ema, rounding, kEmaStream);
    }
    // Made anew from the parameters at each step, so that no error adds up: to nearest.
    if (t.low_precision_copy.data != nullptr) close_stream(t.low_precision_copy, i, n, param);
    close_stream(t.param, i, n, param, rounding, kParamStream);
    for (int s = 0; s < kStates; ++s) close_state(t, s, i, n, states[s], rounding);
  }

  C* open_state(const OptimizerTensor& t, int s, int64_t i, int64_t n) {
    C* buffer = states_[s].data;
    if (t.states[s].data == nullptr) return buffer;
    if constexpr (sizeof(C) == sizeof(float)) {
      if (t.state_scales[s] != nullptr) {
        load_codes(Optimizer::states[s].codes, t.states[s].data, t.state_scales[s], i, n, buffer);
        return buffer;
      }
    }
    return open_stream<C>(t.states[s], i, n, states_[s]);
  }

  void close_state(const OptimizerTensor& t, int s, int64_t i, int64_t n, const C* block, const Rounding& rounding) {
    if (t.states[s].data == nullptr) return;
    if constexpr (sizeof(C) == sizeof(float)) {
      if (t.state_scales[s] != nullptr) {
        const BlockKey key = rounding.block(kFirstState + s, i);
        store_codes(Optimizer::states[s].codes, block, n, t.states[s].data, t.state_scales[s], i, key);
        return;
      }
    }
    close_stream(t.states[s], i, n, block, rounding, kFirstState + s);
  }

  // The streams' numbers in the keys of random bits.
  enum : int32_t { kParamStream, kEmaStream, kFirstState };
  static constexpr int kStates = kStatesOf<Optimizer>;

  const OptimizerStep& p_;
  const double list_factor_;
  double factor_ = 0.0;
  int64_t step_ = -1;  // no tensor's: nothing is prepared yet
  CommonCoefficients<C> common_;
  typename Optimizer::template Coefficients<C> own_;
  Buffer<C> param_, grad_, ema_, states_[kStates];
};

// The list as one flat range, cut into tasks of equal work; a task makes an updater with `make` and calls it for its
// pieces. Inside a tensor the cuts are moved up to the next whole block.
template <class Make>
inline void for_flat_range(const OptimizerStep& p, const Make& make) {
  constexpr int64_t kTask = 32 * kBlock;
  const int64_t tasks = p.total >= kWorthThreads ? (p.total + kTask - 1) / kTask : 1;
  parallel(tasks > 1, tasks, [&](int64_t task) {
    auto updater = make();
    int64_t begin = tasks == 1 ? 0 : task * kTask;
    int64_t left = tasks == 1 || p.total - begin < kTask ? p.total - begin : kTask;
    int64_t tensor = 0;
    while (tensor < p.tensor_count && begin >= p.tensors[tensor].count) begin -= p.tensors[tensor++].count;
    for (; left > 0; begin = 0, ++tensor) {
      const int64_t count = p.tensors[tensor].count;
      const int64_t end = left < count - begin ? begin + left : count;
      left -= end - begin;
      const auto cut = [count](int64_t at) {
        const int64_t moved = (at + kBlock - 1) / kBlock * kBlock;
        return moved < count ? moved : count;
      };
      if (cut(begin) < cut(end)) updater.update(tensor, cut(begin), cut(end));
    }
  });
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
  for_flat_range(p, [&] { return Updater<Optimizer, C>(p, factor); });
  return true;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
