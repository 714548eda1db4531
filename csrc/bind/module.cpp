// fusednn._core: the C API for Python arrays. Defaults and allocation are in ops/, checks in core/.
#include "bind/cuda_settings.h"
#include "bind/families.h"
#include "bind/numpy_array.h"

PYBIND11_MODULE(_core, m) {
  // NumPy is looked up now: in the first call of a daemon thread, the interpreter may be about to end.
  fusednn::find_numpy();
  m.doc() = "The kernels of fusednn, on views of Python arrays. Use fusednn.ops.";
  fusednn::register_library(m);
  fusednn::register_cuda_settings(m);
  fusednn::register_activation(m);
  fusednn::register_batch_norm(m);
  fusednn::register_batch_norm_bound(m);
  fusednn::register_matrix_product(m);
  fusednn::register_optimizer(m);
  fusednn::register_rows(m);
  fusednn::register_stream(m);
  fusednn::register_torch_count(m);
  fusednn::register_torch_step(m);
}
