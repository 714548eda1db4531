#include "bind/array_view.h"
#include "bind/call_stream.h"
#include "bind/families.h"

namespace fusednn {
namespace {

void stream(py::handle inputs, py::handle updated, py::handle output, bool non_temporal) {
  CallStream of_call;
  const ArrayList read("inputs", inputs, ArrayView::as_it_is);
  const ArrayList written("updated", updated, ArrayView::as_it_is);
  const ArrayView target = ArrayView::optional("output", output);
  run([&] {
    return fnn_stream(static_cast<int32_t>(read.size()), read.data(), static_cast<int32_t>(written.size()),
                      written.data(), target.tensor(), non_temporal ? 1 : 0);
  });
  of_call.finish();
}

}  // namespace

void register_stream(py::module_& m) {
  m.def("stream", &stream, py::arg("inputs"), py::arg("updated"), py::arg("output"), py::arg("non_temporal"));
}

}  // namespace fusednn
