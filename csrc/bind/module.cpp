// fusednn._core: the C API for Python arrays. Defaults and allocation are in ops.py, checks in core/.
#include "bind/families.h"

#include <pybind11/numpy.h>

PYBIND11_MODULE(_core, m) {
  // NumPy's functions are looked up now: pybind11 would do it in the first call, and a daemon thread whose first call
  // falls into the end of the interpreter would abort the process there.
  pybind11::detail::npy_api::get();
  m.doc() = "The kernels of fusednn, on views of Python arrays. Use fusednn.ops.";
  fusednn::register_library(m);
  fusednn::register_activation(m);
  fusednn::register_batch_norm(m);
  fusednn::register_optimizer(m);
  fusednn::register_stream(m);
}
