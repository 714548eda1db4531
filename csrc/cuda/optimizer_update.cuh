// The optimizers' kernel: one launch updates every tensor of a list, each element as cpu/optimizers.h does, to the bit.
//
//   unscale and clip the gradient, decay, update, average, low-precision copy
//
// Blocks take chunks of the list in turn and find a chunk's tensor by binary search. Every stream is read and written
// once: Adam in float32 moves 16 B + 12 B per parameter, with bfloat16 parameters, gradients and 8-bit states 6 B + 4 B.
// Only the optimizer and the type of computation are template parameters; storage types and options are branches that
// all threads of a block take together.
//
// Coefficients depend on the step and on the clip by norm. One thread of a block computes them, in double as the CPU does,
// and again where the step or the clip differs from the tensor before; of a long sum the terms are a thread's each. Nothing waits for the host: norms, and whatever
// stands in `scalars`, are read where they lie.
#pragma once

#include "cuda/optimizer_streams.cuh"
#include "fusednn/fusednn.h"
#include "math/optimizer_common.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr int kUpdateThreads = 256;
// Blocks of a multiprocessor: as many as the registers of kLaneElements elements of each stream allow.
template <class C>
constexpr int kUpdateBlocks = sizeof(C) == 8 ? 2 : 3;
// For 12.0 the compiler needs more for doubles, which take longer there than their memory.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
template <class C>
constexpr int kCompiledBlocks = sizeof(C) == 8 ? 1 : kUpdateBlocks<C>;
#else
template <class C>
constexpr int kCompiledBlocks = kUpdateBlocks<C>;
#endif
constexpr int kRound = kUpdateThreads / kWarp * kUnit;
static_assert(kChunk % kRound == 0);

struct UpdateArguments {
  OptimizerStep step;  // whose pointers are the host's: not for here
  const TensorRecord* tensors;
  int64_t tensor_count, chunk_count;
  int64_t first_tensor_step;
  bool uses_random_bits;
  fnn_device_scalars scalars;
  const double* norms;  // sums of squares of each gradient, and over all of them; null where not measured
  const SquareSum* total;
  uint32_t* finished;  // zero before and after
};

// What is constant over a tensor, and which tensor it is.
template <class Optimizer, class C>
struct Prepared {
  int64_t tensor, steps_ahead;
  CommonCoefficients<C> common;
  typename Optimizer::template Coefficients<C> own;
  uint64_t tensor_key;
};

// Whether anything is to be updated at all.
FNN_DEVICE bool proceeds(const UpdateArguments& a) {
  if (a.scalars.found_inf != nullptr && *a.scalars.found_inf != 0.0f) return false;
  return !(a.step.skip_nonfinite && a.total->nonfinite != 0);
}

FNN_DEVICE double factor_of(const UpdateArguments& a, int64_t tensor) {
  if (a.step.max_norm_each < HUGE_VAL) {
    return clip_factor(sqrt(a.norms[tensor]), a.step.max_norm_each, a.step.convention);
  }
  return a.step.max_norm < HUGE_VAL ? clip_factor(sqrt(a.total->squares), a.step.max_norm, a.step.convention) : 1.0;
}

// What of the step's numbers may be the device's.
struct StepNumbers {
  double h[kMaxHyperparameters];
  int64_t step;
};

FNN_DEVICE StepNumbers numbers_of(const UpdateArguments& a, const TensorRecord& t) {
  StepNumbers n;
#pragma unroll
  for (int i = 0; i < kMaxHyperparameters; ++i) n.h[i] = a.step.hyperparameters[i];
  if (a.scalars.lr != nullptr) n.h[0] = static_cast<double>(*a.scalars.lr);
  n.step = a.scalars.step != nullptr ? static_cast<int64_t>(*a.scalars.step) + first_step(a.step.convention)
                                     : a.first_tensor_step + t.steps_ahead;
  return n;
}

// Whether a coefficient is a sum of terms so long that a thread each is worth its barrier.
template <class Optimizer>
concept HasTerms = requires { Optimizer::kWarmupTerms; };

// Shared by a block.
template <class Optimizer, class C>
struct Preparation {
  Prepared<Optimizer, C> prepared;
};
template <HasTerms Optimizer, class C>
struct Preparation<Optimizer, C> {
  Prepared<Optimizer, C> prepared;
  double terms[Optimizer::kWarmupTerms];
};

// By all threads of a block.
template <class Optimizer, class C>
FNN_DEVICE void prepare(const UpdateArguments& a, const TensorRecord& t, int64_t tensor,
                        Preparation<Optimizer, C>& shared) {
  const auto convention = static_cast<Convention>(a.step.convention);
  const double* terms = nullptr;
  __syncthreads();  // whoever still reads what was prepared before
  if constexpr (HasTerms<Optimizer>) {
    static_assert(Optimizer::kWarmupTerms <= kUpdateThreads);
    const int k = static_cast<int>(threadIdx.x) + 1;
    if (k <= Optimizer::kWarmupTerms) {
      const StepNumbers n = numbers_of(a, t);
      shared.terms[k - 1] = Optimizer::warmup_term(n.h, convention, n.step, k);
    }
    terms = shared.terms;
    __syncthreads();  // all terms are there
  }
  if (threadIdx.x == 0) {
    Prepared<Optimizer, C>& k = shared.prepared;
    k.tensor = tensor;
    k.steps_ahead = t.steps_ahead;
    const StepNumbers n = numbers_of(a, t);
    const double grad_scale =
        a.scalars.grad_scale != nullptr ? static_cast<double>(*a.scalars.grad_scale) : a.step.grad_scale;
    k.common = common_coefficients<C>(a.step, n.h[0], grad_scale, factor_of(a, tensor), n.step);
    if constexpr (HasTerms<Optimizer>) {
      k.own = Optimizer::template prepare<C>(n.h, convention, n.step, terms);
    } else {
      k.own = Optimizer::template prepare<C>(n.h, convention, n.step);
    }
    k.tensor_key = a.uses_random_bits ? tensor_key(a.step.stochastic_rounding_seed, n.step, tensor) : 0;
  }
  __syncthreads();  // all is prepared
}

// A state's number as a type, so that what depends on it is known to the compiler.
template <int kIndex>
struct StateIndex {
  static constexpr int value = kIndex;
};
template <int kCount, class F>
FNN_DEVICE void for_states(const F& f) {
  f(StateIndex<0>{});
  if constexpr (kCount > 1) f(StateIndex<1>{});
  if constexpr (kCount > 2) f(StateIndex<2>{});
  static_assert(kCount >= 1 && kCount <= 3, "widen the list above");
}

// A lane's elements of one unit.
template <class Optimizer, class C>
class LaneUpdate {
 public:
  static constexpr int kStates = sizeof(Optimizer::states) / sizeof(State);

  FNN_DEVICE LaneUpdate(const TensorRecord& t, int64_t unit) : t_(t), at_(unit, t.count) {}

  FNN_DEVICE void load() {
    load_stream<Codes::kNone>(t_.param, at_, param_);
    load_stream<Codes::kNone>(t_.grad, at_, grad_);
    for_states<kStates>([&](auto index) {
      constexpr int s = decltype(index)::value;
      constexpr Codes kCodes = codes_of<s>();
      load_stream<kCodes>(t_.states[s], at_, states_[s]);
      scales_[s] = 0.0f;
      if (kCodes != Codes::kNone && t_.states[s].storage == Storage::kCodes && at_.unit < t_.count) {
        scales_[s] = t_.state_scales[s][at_.unit / kCodeBlock];
      }
    });
  }

  FNN_DEVICE void update_and_store(const Prepared<Optimizer, C>& k, bool stochastic) {
    C p[kLaneElements], g[kLaneElements], states[kStates][kLaneElements];
    widen_stream<Codes::kNone>(t_.param, param_, 0.0f, p);
    widen_stream<Codes::kNone>(t_.grad, grad_, 0.0f, g);
    for_states<kStates>([&](auto index) {
      constexpr int s = decltype(index)::value;
      widen_stream<codes_of<s>()>(t_.states[s], states_[s], scales_[s], states[s]);
    });
    const CommonCoefficients<C> common = k.common;
    const auto own = k.own;
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) g[e] = prepared_gradient(common, g[e], p[e]);
    if (common.decay != C(0)) {
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) p[e] = decayed(common, p[e]);
    }
#pragma unroll
    for (int e = 0; e < kLaneElements; ++e) {
      C s[3] = {states[0][e], kStates > 1 ? states[kStates > 1 ? 1 : 0][e] : C(0),
                kStates > 2 ? states[kStates > 2 ? 2 : 0][e] : C(0)};
      Optimizer::update(own, p[e], g[e], s);
      for_states<kStates>([&](auto index) { states[decltype(index)::value][e] = s[decltype(index)::value]; });
    }
    const Rounding to_nearest{false, 0, 0};
    if (t_.ema.data != nullptr) {
      C ema[kLaneElements];
      load_stream<Codes::kNone>(t_.ema, at_, grad_);
      widen_stream<Codes::kNone>(t_.ema, grad_, 0.0f, ema);
#pragma unroll
      for (int e = 0; e < kLaneElements; ++e) ema[e] = ema_updated(common, ema[e], p[e]);
      store_stream<Codes::kNone>(t_.ema, nullptr, at_, ema, {stochastic, k.tensor_key, kEmaStream});
    }
    // Made anew from the parameters at each step, so that no error adds up: to nearest.
    store_stream<Codes::kNone>(t_.low_precision_copy, nullptr, at_, p, to_nearest);
    store_stream<Codes::kNone>(t_.param, nullptr, at_, p, {stochastic, k.tensor_key, kParamStream});
    for_states<kStates>([&](auto index) {
      constexpr int s = decltype(index)::value;
      store_stream<codes_of<s>()>(t_.states[s], t_.state_scales[s], at_, states[s],
                                  {stochastic, k.tensor_key, kFirstState + s});
    });
  }

 private:
  // The streams' numbers in the keys of random bits.
  enum : int32_t { kParamStream, kEmaStream, kFirstState };

  template <int kState>
  static constexpr Codes codes_of() {
    return sizeof(C) == 8 ? Codes::kNone : Optimizer::states[kState].codes;
  }

  const TensorRecord& t_;
  const LanePlace at_;
  Raw<C> param_, grad_, states_[kStates];
  float scales_[kStates];
};

template <class Optimizer, class C>
FNN_KERNEL(kUpdateThreads, kCompiledBlocks<C>)
update_list(const __grid_constant__ UpdateArguments a) {
  auto& shared = *reinterpret_cast<Preparation<Optimizer, C>*>(shared_memory());
  const Prepared<Optimizer, C>& k = shared.prepared;
  const bool going = proceeds(a);
  const bool own_factors = a.step.max_norm_each < HUGE_VAL || a.uses_random_bits;
  for (int64_t chunk = blockIdx.x; going && chunk < a.chunk_count; chunk += gridDim.x) {
    const auto first = [](const TensorRecord& r) { return r.first_chunk; };
    const int64_t tensor = find_record(a.tensors, a.tensor_count, chunk, first);
    const TensorRecord& t = a.tensors[tensor];
    const int64_t begin = (chunk - t.first_chunk) * kChunk;
    if (chunk == blockIdx.x || t.steps_ahead != k.steps_ahead || (own_factors && tensor != k.tensor)) {
      prepare(a, t, tensor, shared);
    }
#pragma unroll 1
    for (int offset = 0; offset < kChunk && begin + offset < t.count; offset += kRound) {
      // Warps past the tensor's end come along: they read zeros and write nothing.
      LaneUpdate<Optimizer, C> lane(t, begin + offset + static_cast<int>(threadIdx.x / kWarp) * kUnit);
      lane.load();
      lane.update_and_store(k, a.step.stochastic_rounding);
    }
  }
  // Thread 0 has read the step of its block, if anyone has: the last of them may count it.
  if (threadIdx.x == 0) {
    const bool is_last = add_acquire_release(a.finished, 1) == gridDim.x - 1;
    if (is_last) {
      *a.finished = 0;
      if (going && a.scalars.step != nullptr) *a.scalars.step += 1.0f;
      if (a.scalars.stepped != nullptr) *a.scalars.stepped = going ? 1 : 0;
    }
  }
}

template <class Optimizer, class C>
cudaError_t launch_update(const UpdateArguments& a, int multiprocessors, cudaStream_t stream) {
  const int64_t resident = int64_t{multiprocessors} * kUpdateBlocks<C>;
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(a.chunk_count < 1 ? 1 : a.chunk_count < resident ? a.chunk_count : resident));
  shape.block = dim3(kUpdateThreads);
  shape.shared_bytes = sizeof(Preparation<Optimizer, C>);
  return launch(update_list<Optimizer, C>, shape, stream, a);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
