// The backend table of one instruction set. Each file of units/ names its namespace and includes this; the build gives
// it the compiler's flags. Everything here is compiled once per instruction set, inside that namespace and with C
// headers only: an inline function of the standard library would be one symbol for all of them, and the linker might
// keep the one that this machine cannot run.
#include "core/backend.h"
#include "cpu/batch_norm.h"
#include "cpu/leaky_relu.h"
#include "cpu/optimizers.h"
#include "cpu/streams.h"

namespace fusednn {
inline namespace FNN_UNIT {
namespace {

bool run_leaky_relu(const LeakyRelu& p) {
  return with_dtype(p.dtype, [&](auto element) { return leaky_relu_of<decltype(element)>(p); });
}

bool run_forward(const BatchNorm& problem) {
  return with_geometry(problem, [](auto tag, const BatchNorm& p) { return forward<typename decltype(tag)::type>(p); });
}

bool run_backward(const BatchNorm& problem) {
  return with_geometry(problem, [](auto tag, const BatchNorm& p) {
    return backward_with_grad_x<typename decltype(tag)::type, FromInput>(p);
  });
}

bool run_backward_from_output(const BatchNorm& problem) {
  return with_geometry(problem, [](auto tag, const BatchNorm& p) {
    return backward_with_grad_x<typename decltype(tag)::type, FromOutput>(p);
  });
}

bool run_inference_backward(const BatchNorm& problem) {
  return with_geometry(
      problem, [](auto tag, const BatchNorm& p) { return inference_backward<typename decltype(tag)::type>(p); });
}

bool run_statistics(const BatchNorm& problem) {
  return with_geometry(problem,
                       [](auto tag, const BatchNorm& p) { return statistics<typename decltype(tag)::type>(p); });
}

bool run_apply(const BatchNorm& problem) {
  return with_geometry(problem, [](auto tag, const BatchNorm& p) { return apply<typename decltype(tag)::type>(p); });
}

bool run_backward_reduce(const BatchNorm& problem) {
  return with_geometry(problem,
                       [](auto tag, const BatchNorm& p) { return backward_reduce<typename decltype(tag)::type>(p); });
}

bool run_backward_apply(const BatchNorm& problem) {
  return with_geometry(problem,
                       [](auto tag, const BatchNorm& p) { return backward_apply<typename decltype(tag)::type>(p); });
}

bool run_optimizer_step(const OptimizerStep& p, bool* stepped) {
  using Step = bool (*)(const OptimizerStep&, bool*);
#define FNN_FLOAT_STEP(Optimizer) optimizer_step_of<Optimizer, float>,
#define FNN_DOUBLE_STEP(Optimizer) optimizer_step_of<Optimizer, double>,
  static const Step in_float[] = {FNN_OPTIMIZERS(FNN_FLOAT_STEP)};
  static const Step in_double[] = {FNN_OPTIMIZERS(FNN_DOUBLE_STEP)};
#undef FNN_FLOAT_STEP
#undef FNN_DOUBLE_STEP
  return (p.in_double ? in_double : in_float)[p.kind](p, stepped);
}

bool run_squared_norms(const SquaredNorms& p) {
  const auto array = [&p](int64_t i) { return p.arrays[i]; };
  return squared_norms(p.array_count, array, 1.0, p.sums) != Measured::kNoWorkspace;
}

}  // namespace

extern const Backend backend;
const Backend backend = {
    FNN_UNIT_NAME,      run_leaky_relu,         run_forward,       run_backward,    run_backward_from_output,
    run_apply,          run_inference_backward, run_statistics,    run_apply,       run_backward_reduce,
    run_backward_apply, run_optimizer_step,     run_squared_norms, run_stream_pass,
};

}  // namespace FNN_UNIT
}  // namespace fusednn
