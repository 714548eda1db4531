// Each family of functions registers itself in the module.
#pragma once

#include <pybind11/pybind11.h>

namespace fusednn {

void register_library(pybind11::module_& m);
void register_activation(pybind11::module_& m);
void register_batch_norm(pybind11::module_& m);
void register_batch_norm_bound(pybind11::module_& m);
void register_matrix_product(pybind11::module_& m);
void register_optimizer(pybind11::module_& m);
void register_rows(pybind11::module_& m);
void register_stream(pybind11::module_& m);
void register_torch_count(pybind11::module_& m);
void register_torch_step(pybind11::module_& m);

}  // namespace fusednn
