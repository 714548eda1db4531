// The optimizer driver: one pass over all streams of all tensors, a block at a time.
//
// Memory moved: every stream once, e.g. Adam in float32 16 B read and 12 B written per parameter, with 8-bit states 10 B
// and 6 B. max_norm and max_norm_each read the gradients once more, before; so does skip_nonfinite.
#pragma once

#include "core/problem.h"
#include "cpu/optimizer_update.h"
#include "cpu/parallel.h"
#include "cpu/squared_norms.h"
#include "cpu/state_codes.h"

namespace fusednn {
inline namespace FNN_UNIT {

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
    const bool random = uses_random_bits(t);
    const uint64_t key = random ? tensor_key(p_.stochastic_rounding_seed, t.step, tensor) : 0;
    for (int64_t i = begin; i < end; i += kBlock) {
      update_block(t, i, end - i < kBlock ? end - i : kBlock, random, key);
    }
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

  bool uses_random_bits(const OptimizerTensor& t) const {
    bool random = p_.stochastic_rounding;
    for (const void* scales : t.state_scales) random = random || scales != nullptr;
    return random;
  }

  void update_block(const OptimizerTensor& t, int64_t index, int64_t n, bool random, uint64_t key) {
    OptimizerBlock<Optimizer, C> block;
    block.count = n;
    block.param = stream_from(t.param, index);
    block.grad = stream_from(t.grad, index);
    block.ema = stream_from(t.ema, index);
    block.low_precision_copy = stream_from(t.low_precision_copy, index);
    for (int s = 0; s < kStates; ++s) {
      block.states[s] = t.state_scales[s] == nullptr ? stream_from(t.states[s], index) : open_codes(t, s, index, n);
    }
    block.stochastic = p_.stochastic_rounding;
    if (random) {
      block.param_key = block_key(key, kParamStream, index / kBlock);
      block.ema_key = block_key(key, kEmaStream, index / kBlock);
      for (int s = 0; s < kStates; ++s) block.state_keys[s] = block_key(key, kFirstState + s, index / kBlock);
    }
    BlockUpdate<Optimizer, C>::run(block, common_, own_);
    for (int s = 0; s < kStates; ++s) {
      if (t.state_scales[s] != nullptr) close_codes(t, s, index, n, block.state_keys[s]);
    }
  }

  // A state in codes is a block of floats while it is updated.
  Stream open_codes(const OptimizerTensor& t, int s, int64_t index, int64_t n) {
    if constexpr (sizeof(C) == sizeof(float)) {
      load_codes(Optimizer::states[s].codes, t.states[s].data, t.state_scales[s], index, n, decoded_[s].data);
    }
    return {decoded_[s].data, DType::kFloat32};
  }

  void close_codes(const OptimizerTensor& t, int s, int64_t index, int64_t n, BlockKey key) {
    if constexpr (sizeof(C) == sizeof(float)) {
      // All scales first: the codes of a block wait for its own.
      uint32_t block_scales[kBlock / kCodeBlock];
      store_scales(decoded_[s].data, n, t.state_scales[s], index, block_scales);
      // Coding takes long and touches little memory: meanwhile that of the next block's other streams comes.
      const bool first = s == 0, last = s == kStates - 1;
      for (int64_t i = 0; i < n; i += kCodeBlock) {
        const int64_t next = index + kBlock + i;
        if (first && next + kCodeBlock <= t.count) fetch_stream(t.param, next, kCodeBlock);
        if (last && next + kCodeBlock <= t.count) fetch_stream(t.grad, next, kCodeBlock);
        store_codes(Optimizer::states[s].codes, decoded_[s].data + i, block_scales[i / kCodeBlock],
                    n - i < kCodeBlock ? n - i : kCodeBlock, t.states[s].data, index + i, key);
      }
    }
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
  Buffer<C> decoded_[kStates];
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
