// fusednn._core: the C API for Python arrays. Defaults and allocation are in ops.py, checks in core/.
#include "bind/families.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The kernels of fusednn, on views of Python arrays. Use fusednn.ops.";
  fusednn::register_library(m);
  fusednn::register_activation(m);
  fusednn::register_batch_norm(m);
  fusednn::register_optimizer(m);
}
