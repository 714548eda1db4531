// The C API's leaky ReLU functions: check, describe, hand to the device.
#include "core/device.h"
#include "core/status.h"

using namespace fusednn;

fnn_status fnn_leaky_relu(const fnn_tensor* x, double negative_slope, const fnn_tensor* y) {
  return guarded([&] {
    const Argument input{"x", x};
    const Argument output{"y", y};
    require_array(input, nullptr);
    require_array(output, &input);
    require_finite("negative_slope", negative_slope);
    Memory memory;
    memory.input(input);
    memory.output(output, x);
    memory.check();
    run_on_device_of(*x, &Backend::leaky_relu, &CudaBackend::leaky_relu,
                     {DType{x->dtype}, element_count(*x), negative_slope, nullptr, x->data, y->data});
  });
}

fnn_status fnn_leaky_relu_backward(const fnn_tensor* grad, const fnn_tensor* x, double negative_slope,
                                   const fnn_tensor* grad_x) {
  return guarded([&] {
    const Argument input{"x", x};
    const Argument gradient{"grad", grad};
    const Argument output{"grad_x", grad_x};
    require_array(input, nullptr);
    require_array(gradient, &input);
    require_array(output, &input);
    require_finite("negative_slope", negative_slope);
    Memory memory;
    memory.input(input);
    memory.input(gradient);
    memory.output(output, x, grad);
    memory.check();
    run_on_device_of(*x, &Backend::leaky_relu, &CudaBackend::leaky_relu,
                     {DType{x->dtype}, element_count(*x), negative_slope, grad->data, x->data, grad_x->data});
  });
}
