#include <pybind11/stl.h>

#include <tuple>
#include <utility>
#include <vector>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/positional.h"

namespace fusednn {
namespace {

// Python says None for "no activation", the C API slope 1.
fnn_batch_norm_options options(py::handle channel_axis, py::handle negative_slope) {
  fnn_batch_norm_options o{};
  o.size = sizeof o;
  o.channel_axis = integer("channel_axis", channel_axis);
  o.negative_slope = optional_real("negative_slope", negative_slope).value_or(1.0);
  return o;
}

void forward(py::handle x, py::handle gamma, py::handle beta, py::handle running_mean, py::handle running_var,
             py::handle momentum, py::handle eps, py::handle unbiased_running_var, py::handle negative_slope,
             py::handle channel_axis, py::handle out, py::handle mean, py::handle inv_std) {
  fnn_batch_norm_options o = options(channel_axis, negative_slope);
  o.momentum = real("momentum", momentum);
  o.eps = real("eps", eps);
  o.unbiased_running_var = flag("unbiased_running_var", unbiased_running_var);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView y("out", out);
  const ArrayView input = std::move(any_x).laid_out_as(y);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView rm = ArrayView::optional("running_mean", running_mean);
  const ArrayView rv = ArrayView::optional("running_var", running_var);
  const ArrayView m("mean", mean);
  const ArrayView s("inv_std", inv_std);
  run_into("y", y.size(), [&] {
    return fnn_batch_norm_forward(input.tensor(), g.tensor(), b.tensor(), rm.tensor(), rv.tensor(), &o, y.tensor(),
                                  m.tensor(), s.tensor());
  });
}

void backward(py::handle grad, py::handle x, py::handle gamma, py::handle beta, py::handle mean, py::handle inv_std,
              py::handle negative_slope, py::handle channel_axis, py::handle out, py::handle grad_gamma,
              py::handle grad_beta) {
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  ArrayView any_grad = ArrayView::readable("grad", grad);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView grad_x("out", out);
  const ArrayView gradient = std::move(any_grad).laid_out_as(grad_x);
  const ArrayView input = std::move(any_x).laid_out_as(grad_x);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView m = ArrayView::vector("mean", mean);
  const ArrayView s = ArrayView::vector("inv_std", inv_std);
  const ArrayView gg("grad_gamma", grad_gamma);
  const ArrayView gb("grad_beta", grad_beta);
  run_into("grad_x", grad_x.size(), [&] {
    return fnn_batch_norm_backward(gradient.tensor(), input.tensor(), g.tensor(), b.tensor(), m.tensor(), s.tensor(),
                                   &o, grad_x.tensor(), gg.tensor(), gb.tensor());
  });
}

void backward_from_output(py::handle grad, py::handle y, py::handle gamma, py::handle beta, py::handle inv_std,
                          py::handle negative_slope, py::handle channel_axis, py::handle out, py::handle grad_gamma,
                          py::handle grad_beta) {
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  ArrayView any_grad = ArrayView::readable("grad", grad);
  ArrayView any_y = ArrayView::readable("y", y);
  const ArrayView grad_x("out", out);
  const ArrayView gradient = std::move(any_grad).laid_out_as(grad_x);
  const ArrayView output = std::move(any_y).laid_out_as(grad_x);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView s = ArrayView::vector("inv_std", inv_std);
  const ArrayView gg("grad_gamma", grad_gamma);
  const ArrayView gb("grad_beta", grad_beta);
  run_into("grad_x", grad_x.size(), [&] {
    return fnn_batch_norm_backward_from_output(gradient.tensor(), output.tensor(), g.tensor(), b.tensor(), s.tensor(),
                                               &o, grad_x.tensor(), gg.tensor(), gb.tensor());
  });
}

int64_t unrecoverable(py::handle x, py::handle gamma, py::handle beta, py::handle negative_slope,
                      py::handle channel_axis) {
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  const ArrayView input("x", x);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  int64_t channel = -1;
  run(g.size(), [&] { return fnn_batch_norm_unrecoverable(input.tensor(), g.tensor(), b.tensor(), &o, &channel); });
  return channel;
}

void inference(py::handle x, py::handle gamma, py::handle beta, py::handle running_mean, py::handle running_var,
               py::handle eps, py::handle negative_slope, py::handle channel_axis, py::handle out) {
  fnn_batch_norm_options o = options(channel_axis, negative_slope);
  o.eps = real("eps", eps);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView y("out", out);
  const ArrayView input = std::move(any_x).laid_out_as(y);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView rm = ArrayView::vector("running_mean", running_mean);
  const ArrayView rv = ArrayView::vector("running_var", running_var);
  run_into("y", y.size(), [&] {
    return fnn_batch_norm_inference(input.tensor(), g.tensor(), b.tensor(), rm.tensor(), rv.tensor(), &o, y.tensor());
  });
}

void inference_backward(py::handle grad, py::handle x, py::handle gamma, py::handle beta, py::handle running_mean,
                        py::handle running_var, py::handle eps, py::handle negative_slope, py::handle channel_axis,
                        py::handle out, py::handle grad_gamma, py::handle grad_beta) {
  fnn_batch_norm_options o = options(channel_axis, negative_slope);
  o.eps = real("eps", eps);
  ArrayView any_grad = ArrayView::readable("grad", grad);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView grad_x("out", out);
  const ArrayView gradient = std::move(any_grad).laid_out_as(grad_x);
  const ArrayView input = std::move(any_x).laid_out_as(grad_x);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView rm = ArrayView::vector("running_mean", running_mean);
  const ArrayView rv = ArrayView::vector("running_var", running_var);
  const ArrayView gg("grad_gamma", grad_gamma);
  const ArrayView gb("grad_beta", grad_beta);
  run_into("grad_x", grad_x.size(), [&] {
    return fnn_batch_norm_inference_backward(gradient.tensor(), input.tensor(), g.tensor(), b.tensor(), rm.tensor(),
                                             rv.tensor(), &o, grad_x.tensor(), gg.tensor(), gb.tensor());
  });
}

int64_t statistics(py::handle x, py::handle channel_axis, py::handle mean, py::handle m2) {
  const fnn_batch_norm_options o = options(channel_axis, py::none());
  const ArrayView input = ArrayView::dense("x", x);
  const ArrayView m("mean", mean);
  const ArrayView v("m2", m2);
  int64_t count = 0;
  run(input.size(), [&] { return fnn_batch_norm_statistics(input.tensor(), &o, m.tensor(), v.tensor(), &count); });
  return count;
}

int64_t merge_statistics(py::handle list, py::handle mean, py::handle m2) {
  const auto parts = list.cast<std::vector<std::tuple<py::object, py::object, py::object>>>();
  std::vector<ArrayView> views;
  std::vector<fnn_tensor> means;
  std::vector<fnn_tensor> m2s;
  std::vector<int64_t> counts;
  views.reserve(2 * parts.size());
  for (const auto& [part_mean, part_m2, part_count] : parts) {
    means.push_back(*views.emplace_back(ArrayView::vector("mean", part_mean)).tensor());
    m2s.push_back(*views.emplace_back(ArrayView::vector("m2", part_m2)).tensor());
    counts.push_back(integer("count", part_count));
  }
  const ArrayView m("mean", mean);
  const ArrayView v("m2", m2);
  int64_t count = 0;
  run(m.size(), [&] {
    return fnn_merge_statistics(static_cast<int64_t>(parts.size()), means.data(), m2s.data(), counts.data(), m.tensor(),
                                v.tensor(), &count);
  });
  return count;
}

void apply(py::handle x, py::handle mean, py::handle inv_std, py::handle gamma, py::handle beta,
           py::handle negative_slope, py::handle channel_axis, py::handle out) {
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView y("out", out);
  const ArrayView input = std::move(any_x).laid_out_as(y);
  const ArrayView m = ArrayView::vector("mean", mean);
  const ArrayView s = ArrayView::vector("inv_std", inv_std);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  run_into("y", y.size(), [&] {
    return fnn_batch_norm_apply(input.tensor(), m.tensor(), s.tensor(), g.tensor(), b.tensor(), &o, y.tensor());
  });
}

void backward_reduce(py::handle grad, py::handle x, py::handle gamma, py::handle beta, py::handle mean,
                     py::handle inv_std, py::handle negative_slope, py::handle channel_axis, py::handle sum_grad,
                     py::handle sum_grad_xhat) {
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  const ArrayView input = ArrayView::dense("x", x);
  const ArrayView gradient = ArrayView::readable("grad", grad).laid_out_as(input);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView m = ArrayView::vector("mean", mean);
  const ArrayView s = ArrayView::vector("inv_std", inv_std);
  const ArrayView sg("sum_grad", sum_grad);
  const ArrayView sx("sum_grad_xhat", sum_grad_xhat);
  run(input.size(), [&] {
    return fnn_batch_norm_backward_reduce(gradient.tensor(), input.tensor(), g.tensor(), b.tensor(), m.tensor(),
                                          s.tensor(), &o, sg.tensor(), sx.tensor());
  });
}

void backward_apply(py::handle grad, py::handle x, py::handle gamma, py::handle beta, py::handle mean,
                    py::handle inv_std, py::handle sum_grad, py::handle sum_grad_xhat, py::handle count,
                    py::handle negative_slope, py::handle channel_axis, py::handle out) {
  const int64_t n = integer("count", count);
  const fnn_batch_norm_options o = options(channel_axis, negative_slope);
  ArrayView any_grad = ArrayView::readable("grad", grad);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView grad_x("out", out);
  const ArrayView gradient = std::move(any_grad).laid_out_as(grad_x);
  const ArrayView input = std::move(any_x).laid_out_as(grad_x);
  const ArrayView g = ArrayView::optional_vector("gamma", gamma);
  const ArrayView b = ArrayView::optional_vector("beta", beta);
  const ArrayView m = ArrayView::vector("mean", mean);
  const ArrayView s = ArrayView::vector("inv_std", inv_std);
  const ArrayView sg = ArrayView::vector("sum_grad", sum_grad);
  const ArrayView sx = ArrayView::vector("sum_grad_xhat", sum_grad_xhat);
  run_into("grad_x", grad_x.size(), [&] {
    return fnn_batch_norm_backward_apply(gradient.tensor(), input.tensor(), g.tensor(), b.tensor(), m.tensor(),
                                         s.tensor(), sg.tensor(), sx.tensor(), n, &o, grad_x.tensor());
  });
}

}  // namespace

void register_batch_norm(py::module_& m) {
  add_positional<&forward>(m, "batch_norm_forward",
                           "x, gamma, beta, running_mean, running_var, momentum, eps, unbiased_running_var, "
                           "negative_slope, channel_axis, out, mean, inv_std");
  add_positional<&backward>(
      m, "batch_norm_backward",
      "grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis, out, grad_gamma, grad_beta");
  add_positional<&backward_from_output>(
      m, "batch_norm_backward_from_output",
      "grad, y, gamma, beta, inv_std, negative_slope, channel_axis, out, grad_gamma, grad_beta");
  add_positional<&unrecoverable>(m, "batch_norm_unrecoverable", "x, gamma, beta, negative_slope, channel_axis");
  add_positional<&inference>(m, "batch_norm_inference",
                             "x, gamma, beta, running_mean, running_var, eps, negative_slope, channel_axis, out");
  add_positional<&inference_backward>(
      m, "batch_norm_inference_backward",
      "grad, x, gamma, beta, running_mean, running_var, eps, negative_slope, channel_axis, out, grad_gamma, grad_beta");
  add_positional<&statistics>(m, "batch_norm_statistics", "x, channel_axis, mean, m2");
  add_positional<&merge_statistics>(m, "merge_statistics", "parts, mean, m2");
  add_positional<&apply>(m, "batch_norm_apply", "x, mean, inv_std, gamma, beta, negative_slope, channel_axis, out");
  add_positional<&backward_reduce>(
      m, "batch_norm_backward_reduce",
      "grad, x, gamma, beta, mean, inv_std, negative_slope, channel_axis, sum_grad, sum_grad_xhat");
  add_positional<&backward_apply>(
      m, "batch_norm_backward_apply",
      "grad, x, gamma, beta, mean, inv_std, sum_grad, sum_grad_xhat, count, negative_slope, channel_axis, out");
}

}  // namespace fusednn
