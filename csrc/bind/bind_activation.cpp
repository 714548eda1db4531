#include "bind/array_view.h"
#include "bind/families.h"
#include "bind/numbers.h"
#include "bind/positional.h"

namespace fusednn {
namespace {

void leaky_relu(py::handle x, py::handle negative_slope, py::handle out) {
  const ArrayView input = ArrayView::like("x", x, out);
  const ArrayView y("out", out);
  const double slope = real("negative_slope", negative_slope);
  run(y.size(), [&] { return fnn_leaky_relu(input.tensor(), slope, y.tensor()); });
}

void leaky_relu_backward(py::handle grad, py::handle x, py::handle negative_slope, py::handle out) {
  const ArrayView gradient = ArrayView::like("grad", grad, out);
  const ArrayView input = ArrayView::like("x", x, out);
  const ArrayView grad_x("out", out);
  const double slope = real("negative_slope", negative_slope);
  run(grad_x.size(),
      [&] { return fnn_leaky_relu_backward(gradient.tensor(), input.tensor(), slope, grad_x.tensor()); });
}

}  // namespace

void register_activation(py::module_& m) {
  add_positional<&leaky_relu>(m, "leaky_relu", "x, negative_slope, out");
  add_positional<&leaky_relu_backward>(m, "leaky_relu_backward", "grad, x, negative_slope, out");
}

}  // namespace fusednn
