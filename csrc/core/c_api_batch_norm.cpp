// The C API's BatchNorm functions: check, describe, hand to the device.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/device.h"
#include "core/recovery.h"
#include "core/status.h"
#include "math/batch_norm.h"

using namespace fusednn;

namespace {

// Gathers the arguments of one call, checking each as it comes, into a problem.
class Call {
 public:
  Call(const char* main_name, const fnn_tensor* main, const fnn_batch_norm_options* options) : main_{main_name, main} {
    require_struct("options", options);
    require_array(main_, nullptr);
    int64_t axis = options->channel_axis;
    const int64_t rank = main->ndim;
    if (rank < 1 || axis < -rank || axis >= rank) {
      const std::string axes = rank < 1 ? "none" : std::to_string(-rank) + " to " + std::to_string(rank - 1);
      fail_value("`" + main_.name + "` must have the axis `channel_axis` (its axes: " + axes +
                 "). Received: channel_axis=" + std::to_string(axis) + ", shape=" + shape_text(*main));
    }
    if (axis < 0) axis += rank;
    require_non_negative("eps", options->eps);
    require_finite("negative_slope", options->negative_slope);
    require_unit_interval("momentum", options->momentum);
    const ChannelView view = channel_view(*main, axis);
    problem.dtype = DType{main->dtype};
    problem.outer = view.outer;
    problem.channels = view.channels;
    problem.inner = view.inner;
    problem.row_stride = view.channels * view.inner;
    problem.eps = options->eps;
    problem.momentum = options->momentum;
    problem.negative_slope = options->negative_slope;
    problem.unbiased_running_var = options->unbiased_running_var != 0;
    memory_.input(main_);
  }

  const void* full_input(const char* name, const fnn_tensor* t) {
    const Argument a{name, t};
    require_array(a, &main_);
    memory_.input(a);
    return t->data;
  }

  void* full_output(const char* name, const fnn_tensor* t, const fnn_tensor* may_replace,
                    const fnn_tensor* or_else = nullptr) {
    const Argument a{name, t};
    require_array(a, &main_);
    memory_.output(a, may_replace, or_else);
    return t->data;
  }

  void* channel_input(const char* name, const fnn_tensor* t) {
    require_channels({name, t});
    memory_.input({name, t});
    return t->data;
  }

  const void* optional_channel_input(const char* name, const fnn_tensor* t) {
    return t == nullptr ? nullptr : channel_input(name, t);
  }

  void* channel_output(const char* name, const fnn_tensor* t) {
    require_channels({name, t});
    memory_.output({name, t});
    return t->data;
  }

  void affine(const fnn_tensor* gamma, const fnn_tensor* beta) {
    problem.gamma = optional_channel_input("gamma", gamma);
    problem.beta = optional_channel_input("beta", beta);
  }

  // Running statistics of inference: a negative variance has no root.
  void population(const fnn_tensor* running_mean, const fnn_tensor* running_var) {
    problem.running_mean = channel_input("running_mean", running_mean);
    problem.running_var = channel_input("running_var", running_var);
    for (int64_t c = 0; values_at_hand() && c < problem.channels; ++c) {
      const double variance = value_at(*running_var, c);
      if (variance < 0.0) {
        fail_value("`running_var` must not be negative. Received: running_var[" + std::to_string(c) +
                   "]=" + number(variance));
      }
    }
  }

  // What the in-place form needs to know of the output.
  Recovery recovery() const {
    const Recovery r(problem.dtype, problem.negative_slope);
    if (!r.allows_slope(problem.negative_slope)) {
      fail_value(
          "`negative_slope` must be positive where the input is recovered from the output, and it and its inverse no "
          "subnormal numbers. Received: negative_slope=" +
          number(problem.negative_slope));
    }
    return r;
  }

  // The first channel whose input cannot be recovered from the output; -1 if there is none.
  int64_t unrecoverable_channel(const Recovery& r, const fnn_tensor* gamma, const fnn_tensor* beta) const {
    if (!values_at_hand()) return -1;
    // Without both all channels are alike; of an array without elements there may be 2^60.
    const int64_t count =
        gamma == nullptr && beta == nullptr ? std::min<int64_t>(problem.channels, 1) : problem.channels;
    for (int64_t c = 0; c < count; ++c) {
      const double scale = gamma == nullptr ? 1.0 : value_at(*gamma, c);
      if (!r.allows(scale, beta == nullptr ? 0.0 : value_at(*beta, c))) return c;
    }
    return -1;
  }

  void run(bool (*Backend::*cpu)(const BatchNorm&),
           CudaOutcome (*CudaBackend::*cuda)(const BatchNorm&, const CudaPlace&)) const {
    memory_.check();
    if (problem.channels == 0) return;  // there is no element, however many a channel would have
    run_on_device_of(*main_.tensor, cpu, cuda, problem);
  }

  // Whether per-channel values can be looked at: those on a GPU only by waiting for it.
  bool values_at_hand() const { return !on_cuda(*main_.tensor); }

  BatchNorm problem{};

 private:
  void require_channels(const Argument& a) const {
    require_vector(a, main_.tensor->dtype == FNN_FLOAT64 ? FNN_FLOAT64 : FNN_FLOAT32, problem.channels, main_.tensor);
  }

  Argument main_;
  Memory memory_;
};

}  // namespace

fnn_status fnn_batch_norm_forward(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                  const fnn_tensor* running_mean, const fnn_tensor* running_var,
                                  const fnn_batch_norm_options* options, const fnn_tensor* y, const fnn_tensor* mean,
                                  const fnn_tensor* inv_std) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    call.affine(gamma, beta);
    if ((running_mean == nullptr) != (running_var == nullptr)) {
      fail_value(std::string("`running_mean` and `running_var` must be given together. Received: only `running_") +
                 (running_mean != nullptr ? "mean`" : "var`"));
    }
    if (running_mean != nullptr) {
      p.running_mean = call.channel_output("running_mean", running_mean);
      p.running_var = call.channel_output("running_var", running_var);
      if (p.unbiased_running_var && p.outer * p.inner == 1) {
        fail_value(
            "`unbiased_running_var` must be false where a channel has one element. Received: "
            "unbiased_running_var=true, shape=" +
            shape_text(*x));
      }
    }
    p.y = call.full_output("y", y, x);
    p.mean = call.channel_output("mean", mean);
    p.inv_std = call.channel_output("inv_std", inv_std);
    call.run(&Backend::batch_norm_forward, &CudaBackend::batch_norm_forward);
  });
}

fnn_status fnn_batch_norm_backward(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                   const fnn_tensor* beta, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                   const fnn_batch_norm_options* options, const fnn_tensor* grad_x,
                                   const fnn_tensor* grad_gamma, const fnn_tensor* grad_beta) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    p.grad = call.full_input("grad", grad);
    call.affine(gamma, beta);
    p.mean = call.channel_input("mean", mean);
    p.inv_std = call.channel_input("inv_std", inv_std);
    p.grad_x = call.full_output("grad_x", grad_x, x, grad);
    p.sum_grad_xhat = call.channel_output("grad_gamma", grad_gamma);
    p.sum_grad = call.channel_output("grad_beta", grad_beta);
    call.run(&Backend::batch_norm_backward, &CudaBackend::batch_norm_backward);
  });
}

fnn_status fnn_batch_norm_backward_from_output(const fnn_tensor* grad, const fnn_tensor* y, const fnn_tensor* gamma,
                                               const fnn_tensor* beta, const fnn_tensor* inv_std,
                                               const fnn_batch_norm_options* options, const fnn_tensor* grad_x,
                                               const fnn_tensor* grad_gamma, const fnn_tensor* grad_beta) {
  return guarded([&] {
    Call call("y", y, options);
    BatchNorm& p = call.problem;
    p.y_in = y->data;
    p.grad = call.full_input("grad", grad);
    call.affine(gamma, beta);
    const Recovery recovery = call.recovery();
    const int64_t c = call.unrecoverable_channel(recovery, gamma, beta);
    if (c >= 0) {
      const double shift = beta == nullptr ? 0.0 : value_at(*beta, c);
      const std::string at = "[" + std::to_string(c) + "]=";
      fail_value("`gamma` must be at least " + number(recovery.smallest_gamma(shift)) +
                 " in size, beside this `beta` and `negative_slope`, where half of the digits of " +
                 dtype_name(y->dtype) + " are to be recovered from the output. Received: gamma" + at +
                 number(gamma == nullptr ? 1.0 : value_at(*gamma, c)) + ", beta" + at + number(shift) +
                 ", negative_slope=" + number(p.negative_slope));
    }
    p.inv_std = call.channel_input("inv_std", inv_std);
    p.grad_x = call.full_output("grad_x", grad_x, y, grad);
    p.sum_grad_xhat = call.channel_output("grad_gamma", grad_gamma);
    p.sum_grad = call.channel_output("grad_beta", grad_beta);
    call.run(&Backend::batch_norm_backward_from_output, &CudaBackend::batch_norm_backward_from_output);
  });
}

fnn_status fnn_batch_norm_unrecoverable(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                        const fnn_batch_norm_options* options, int64_t* channel) {
  return guarded([&] {
    require_pointer("channel", channel);
    Call call("x", x, options);
    call.affine(gamma, beta);
    *channel = call.unrecoverable_channel(call.recovery(), gamma, beta);
  });
}

fnn_status fnn_batch_norm_inference(const fnn_tensor* x, const fnn_tensor* gamma, const fnn_tensor* beta,
                                    const fnn_tensor* running_mean, const fnn_tensor* running_var,
                                    const fnn_batch_norm_options* options, const fnn_tensor* y) {
  return guarded([&] {
    Call call("x", x, options);
    call.problem.x = x->data;
    call.affine(gamma, beta);
    call.population(running_mean, running_var);
    call.problem.y = call.full_output("y", y, x);
    call.run(&Backend::batch_norm_inference, &CudaBackend::batch_norm_inference);
  });
}

fnn_status fnn_batch_norm_inference_backward(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                             const fnn_tensor* beta, const fnn_tensor* running_mean,
                                             const fnn_tensor* running_var, const fnn_batch_norm_options* options,
                                             const fnn_tensor* grad_x, const fnn_tensor* grad_gamma,
                                             const fnn_tensor* grad_beta) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    p.grad = call.full_input("grad", grad);
    call.affine(gamma, beta);
    call.population(running_mean, running_var);
    p.grad_x = call.full_output("grad_x", grad_x, x, grad);
    p.sum_grad_xhat = call.channel_output("grad_gamma", grad_gamma);
    p.sum_grad = call.channel_output("grad_beta", grad_beta);
    call.run(&Backend::batch_norm_inference_backward, &CudaBackend::batch_norm_inference_backward);
  });
}

fnn_status fnn_batch_norm_statistics(const fnn_tensor* x, const fnn_batch_norm_options* options, const fnn_tensor* mean,
                                     const fnn_tensor* m2, int64_t* count) {
  return guarded([&] {
    require_pointer("count", count);
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    p.mean = call.channel_output("mean", mean);
    p.m2 = call.channel_output("m2", m2);
    call.run(&Backend::batch_norm_statistics, &CudaBackend::batch_norm_statistics);
    *count = p.outer * p.inner;
  });
}

fnn_status fnn_merge_statistics(int64_t parts, const fnn_tensor* means, const fnn_tensor* m2s, const int64_t* counts,
                                const fnn_tensor* mean, const fnn_tensor* m2, int64_t* count) {
  return guarded([&] {
    if (parts < 1) fail_value("`parts` must hold at least one (mean, m2, count). Received: an empty list");
    require_list_count("parts", parts);
    require_pointer("means", means);
    require_pointer("m2s", m2s);
    require_pointer("counts", counts);
    require_pointer("count", count);
    const Argument result{"mean", mean};
    require_array(result, nullptr);
    const int64_t channels = element_count(*mean);
    if (mean->dtype != FNN_FLOAT32 && mean->dtype != FNN_FLOAT64) {
      fail_type(std::string("`mean` must be float32 or float64. Received: dtype=") + dtype_name(mean->dtype));
    }
    require_vector(result, mean->dtype, channels, mean);
    const Argument deviations{"m2", m2};
    require_vector(deviations, mean->dtype, channels, mean);
    require_writable(result);
    require_writable(deviations);
    require_apart(result, deviations);
    int64_t total = 0;
    for (int64_t i = 0; i < parts; ++i) {
      for (const Argument& a : {Argument{{"parts", i, ".mean"}, &means[i]}, Argument{{"parts", i, ".m2"}, &m2s[i]}}) {
        require_vector(a, mean->dtype, channels, mean);
        require_apart(result, a);
        require_apart(deviations, a);
      }
      if (counts[i] < 0) {
        fail_value("`" + Name("parts", i, ".count") +
                   "` must not be negative. Received: count=" + std::to_string(counts[i]));
      }
      for (int64_t c = 0; counts[i] > 0 && !on_cuda(*mean) && c < channels; ++c) {
        if (value_at(m2s[i], c) < 0.0) {
          fail_value("`" + Name("parts", i, ".m2") + "` must not be negative. Received: m2[" + std::to_string(c) +
                     "]=" + number(value_at(m2s[i], c)));
        }
      }
      if (__builtin_add_overflow(total, counts[i], &total)) {
        fail_value("`" + Name("parts", i, ".count") +
                   "` must be such that all are together less than 2^63. Received: count=" + std::to_string(counts[i]));
      }
    }
    if (on_cuda(*mean)) {
      std::vector<const void*> mean_data;
      std::vector<const void*> m2_data;
      for (int64_t i = 0; i < parts; ++i) {
        mean_data.push_back(means[i].data);
        m2_data.push_back(m2s[i].data);
      }
      require_done(cuda_backend().merge_statistics(
          {DType{mean->dtype}, channels, parts, mean_data.data(), m2_data.data(), counts, mean->data, m2->data},
          cuda_place(mean->device_id)));
      *count = total;
      return;
    }
    for (int64_t c = 0; c < channels; ++c) {
      Moments merged{0.0, 0.0, 0.0};
      for (int64_t i = 0; i < parts; ++i) {
        if (counts[i] == 0) continue;  // its numbers may be anything
        merged = merge(merged, {value_at(means[i], c), value_at(m2s[i], c), static_cast<double>(counts[i])});
      }
      put_value(*mean, c, merged.mean);
      put_value(*m2, c, merged.m2);
    }
    *count = total;
  });
}

fnn_status fnn_batch_norm_apply(const fnn_tensor* x, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                const fnn_tensor* gamma, const fnn_tensor* beta, const fnn_batch_norm_options* options,
                                const fnn_tensor* y) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    p.mean = call.channel_input("mean", mean);
    p.inv_std = call.channel_input("inv_std", inv_std);
    call.affine(gamma, beta);
    p.y = call.full_output("y", y, x);
    call.run(&Backend::batch_norm_apply, &CudaBackend::batch_norm_apply);
  });
}

fnn_status fnn_batch_norm_backward_reduce(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                          const fnn_tensor* beta, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                          const fnn_batch_norm_options* options, const fnn_tensor* sum_grad,
                                          const fnn_tensor* sum_grad_xhat) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    p.x = x->data;
    p.grad = call.full_input("grad", grad);
    call.affine(gamma, beta);
    p.mean = call.channel_input("mean", mean);
    p.inv_std = call.channel_input("inv_std", inv_std);
    p.sum_grad = call.channel_output("sum_grad", sum_grad);
    p.sum_grad_xhat = call.channel_output("sum_grad_xhat", sum_grad_xhat);
    call.run(&Backend::batch_norm_backward_reduce, &CudaBackend::batch_norm_backward_reduce);
  });
}

fnn_status fnn_batch_norm_backward_apply(const fnn_tensor* grad, const fnn_tensor* x, const fnn_tensor* gamma,
                                         const fnn_tensor* beta, const fnn_tensor* mean, const fnn_tensor* inv_std,
                                         const fnn_tensor* sum_grad, const fnn_tensor* sum_grad_xhat, int64_t count,
                                         const fnn_batch_norm_options* options, const fnn_tensor* grad_x) {
  return guarded([&] {
    Call call("x", x, options);
    BatchNorm& p = call.problem;
    if (count < 0) fail_value("`count` must not be negative. Received: count=" + std::to_string(count));
    if (count < p.outer * p.inner) {
      fail_value("`count` must be at least the elements per channel of `x`, " + std::to_string(p.outer * p.inner) +
                 ". Received: count=" + std::to_string(count));
    }
    p.x = x->data;
    p.grad = call.full_input("grad", grad);
    call.affine(gamma, beta);
    p.mean = call.channel_input("mean", mean);
    p.inv_std = call.channel_input("inv_std", inv_std);
    p.sum_grad = call.channel_input("sum_grad", sum_grad);
    p.sum_grad_xhat = call.channel_input("sum_grad_xhat", sum_grad_xhat);
    p.count = static_cast<double>(count);
    p.grad_x = call.full_output("grad_x", grad_x, x, grad);
    call.run(&Backend::batch_norm_backward_apply, &CudaBackend::batch_norm_backward_apply);
  });
}
