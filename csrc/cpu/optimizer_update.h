// The update of a block of elements: one loop, in which a vector goes through all that a step may do to it.
//
// Load, unscale and clip the gradient, decay, update, average, low-precision copy, store. What a step does not do is a
// branch that is the same for the whole block, so that options cost next to nothing where they are off and multiply
// nothing; so is each stream's type, except where all are of the type of computation.
#pragma once

#include "cpu/optimizer_streams.h"
#include "math/optimizer_common.h"

namespace fusednn {
inline namespace FNN_UNIT {

template <class Optimizer>
constexpr int kStatesOf = sizeof(Optimizer::states) / sizeof(State);

// At most kBlock elements of a tensor, from the first one of a block on.
template <class Optimizer, class C>
struct OptimizerBlock {
  int64_t count;
  Stream param, grad, ema, low_precision_copy, states[kStatesOf<Optimizer>];
  // Whether bfloat16 is rounded at random, and with which bits.
  bool stochastic;
  BlockKey param_key, ema_key, state_keys[kStatesOf<Optimizer>];

  // Whether parameters, gradients and average are of one type, and all states of one.
  bool of(DType dtype, DType of_states) const {
    const auto differs = [](const Stream& s, DType type) { return s.data != nullptr && s.dtype != type; };
    bool mixed = differs(param, dtype) || differs(grad, dtype) || differs(ema, dtype);
    for (const Stream& s : states) mixed = mixed || differs(s, of_states);
    return !mixed;
  }
};

template <class Optimizer, class C>
class BlockUpdate {
 public:
  using Block = OptimizerBlock<Optimizer, C>;
  using Common = CommonCoefficients<C>;
  using Own = typename Optimizer::template Coefficients<C>;

  static void run(const Block& block, const Common& common, const Own& own) {
    if constexpr (sizeof(C) == sizeof(float)) {
      if (block.of(DType::kFloat32, DType::kFloat32)) return plain_then_all<C, C, C>(block, common, own);
      if (block.of(DType::kBFloat16, DType::kBFloat16)) {
        return plain_then_all<BFloat16, BFloat16, BFloat16>(block, common, own);
      }
      if (block.of(DType::kFloat16, DType::kFloat32)) return plain_then_all<Float16, C, AnyType>(block, common, own);
      return all<AnyType>(block, common, own, 0);
    }
    all<C>(block, common, own, 0);
  }

 private:
  // T is the type of parameters and gradients, S that of states; AsAll is the type of streams for what is left.
  template <class T, class S, class AsAll>
  static void plain_then_all(const Block& block, const Common& common, const Own& own) {
    const int64_t done = kHasPlainLoops && is_plain(block, common) ? plain_vectors<T, S>(block, common, own) : 0;
    if (done < block.count) all<AsAll>(block, common, own, done);
  }

  // Loops without a branch for each option, for steps that use none: a third fewer instructions in the cheapest formulas.
  // Only where machines are fast enough to notice.
  static constexpr bool kHasPlainLoops = kVectorBytes > 16;

  static bool is_plain(const Block& block, const Common& common) {
    return !common.changes_gradient && common.decay == C(0) && block.ema.data == nullptr &&
           block.low_precision_copy.data == nullptr && !block.stochastic;
  }

  // Returns how many elements whole vectors hold. Copies: no store to an element may seem to change them.
  template <class T, class S>
  static FNN_ONE_COPY int64_t plain_vectors(const Block& of, const Common& by, const Own& with) {
    const Block block = of;
    const Common common = by;
    const Own own = with;
    int64_t i = 0;
    for (; i + kPerVector<C> <= block.count; i += kPerVector<C>) some<T, S, Vector<C>, true>(block, common, own, i);
    return i;
  }

  // The elements from i on to the end.
  template <class T>
  static FNN_ONE_COPY void all(const Block& of, const Common& by, const Own& with, int64_t i) {
    const Block block = of;
    const Common common = by;
    const Own own = with;
    for (; i + kPerVector<C> <= block.count; i += kPerVector<C>) some<T, T, Vector<C>>(block, common, own, i);
    for (; i < block.count; ++i) some<T, T, C>(block, common, own, i);
  }

  // The elements from i on, as many as V has.
  template <class T, class S, class V, bool kPlain = false>
  static FNN_INLINE void some(const Block& block, const Common& common, const Own& own, int64_t i) {
    V param = load_stream<T, C>(block.param, i, V{});
    V grad = load_stream<T, C>(block.grad, i, V{});
    // A state that is not needed is computed and dropped.
    V states[3] = {};
#pragma GCC unroll 3
    for (int s = 0; s < kStates; ++s) {
      if (block.states[s].data != nullptr) states[s] = load_stream<S, C>(block.states[s], i, V{});
    }
    if constexpr (!kPlain) {
      if (common.changes_gradient) {
        grad = common.only_scales ? grad * common.grad_factor : prepared_gradient(common, grad, param);
      }
      if (common.decay != C(0)) param = decayed(common, param);
    }
    Optimizer::update(own, param, grad, states);
    if constexpr (!kPlain) {
      if (block.ema.data != nullptr) {
        const V ema = ema_updated(common, load_stream<T, C>(block.ema, i, V{}), param);
        put<T, kPlain>(block, block.ema, block.ema_key, i, ema);
      }
      if constexpr (sizeof(C) == sizeof(float)) {
        // Made anew from the parameters at each step, so that no error adds up: to nearest.
        if (block.low_precision_copy.data != nullptr) store_stream<AnyType, C>(block.low_precision_copy, i, param);
      }
    }
    put<T, kPlain>(block, block.param, block.param_key, i, param);
#pragma GCC unroll 3
    for (int s = 0; s < kStates; ++s) {
      if (block.states[s].data != nullptr) put<S, kPlain>(block, block.states[s], block.state_keys[s], i, states[s]);
    }
  }

  // Stores what the next step reads again.
  template <class T, bool kPlain, class V>
  static FNN_INLINE void put(const Block& block, const Stream& stream, BlockKey key, int64_t i, V v) {
    if constexpr (!kPlain && !is_same<T, C>) {
      if (block.stochastic && stream.dtype == DType::kBFloat16) return store_stochastic(stream.data, i, v, key);
    }
    store_stream<T, C>(stream, i, v);
  }

  static constexpr int kStates = kStatesOf<Optimizer>;
  static_assert(kStates >= 1 && kStates <= 3, "widen the array of states");
};

}  // namespace FNN_UNIT
}  // namespace fusednn
