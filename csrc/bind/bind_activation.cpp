#include <utility>

#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/positional.h"

namespace fusednn {
namespace {

void leaky_relu(py::handle x, py::handle negative_slope, py::handle out) {
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView y("out", out);
  const ArrayView input = std::move(any_x).laid_out_as(y);
  const double slope = real("negative_slope", negative_slope);
  run_into("y", y.size(), [&] { return fnn_leaky_relu(input.tensor(), slope, y.tensor()); });
}

void leaky_relu_backward(py::handle grad, py::handle x, py::handle negative_slope, py::handle out) {
  ArrayView any_grad = ArrayView::readable("grad", grad);
  ArrayView any_x = ArrayView::readable("x", x);
  const ArrayView grad_x("out", out);
  const ArrayView gradient = std::move(any_grad).laid_out_as(grad_x);
  const ArrayView input = std::move(any_x).laid_out_as(grad_x);
  const double slope = real("negative_slope", negative_slope);
  run_into("grad_x", grad_x.size(),
           [&] { return fnn_leaky_relu_backward(gradient.tensor(), input.tensor(), slope, grad_x.tensor()); });
}

}  // namespace

void register_activation(py::module_& m) {
  add_positional<&leaky_relu>(m, "leaky_relu", "x, negative_slope, out");
  add_positional<&leaky_relu_backward>(m, "leaky_relu_backward", "grad, x, negative_slope, out");
}

}  // namespace fusednn
