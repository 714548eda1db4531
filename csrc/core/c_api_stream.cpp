// The C API's passes over memory, what kernels are measured against: check, describe, hand to the device.
#include "core/device.h"
#include "core/status.h"

using namespace fusednn;

namespace {

void require_between(const char* name, int32_t count, int32_t least, int32_t most) {
  if (count < least || count > most) {
    fail_value(std::string("`") + name + "` must hold " + std::to_string(least) + " to " + std::to_string(most) +
               " arrays here. Received: " + std::to_string(count) + " arrays");
  }
}

// float32 vectors of one length, in whole cache lines, so that a pass needs no edges.
float* stream_data(const Argument& a, const fnn_tensor& first) {
  require_vector(a, FNN_FLOAT32, element_count(first), &first);
  const bool aligned = reinterpret_cast<uintptr_t>(a.tensor->data) % 64 == 0;
  if (!aligned || element_count(*a.tensor) % kStreamFloats != 0) {
    fail_value("`" + a.name + "` must start at a multiple of 64 bytes and hold a multiple of " +
               std::to_string(kStreamFloats) + " elements. Received: " + (aligned ? "" : "misaligned data, ") +
               "shape=" + shape_text(*a.tensor));
  }
  return static_cast<float*>(a.tensor->data);
}

}  // namespace

fnn_status fnn_stream(int32_t input_count, const fnn_tensor* inputs, int32_t updated_count, const fnn_tensor* updated,
                      const fnn_tensor* output, int32_t non_temporal) {
  return guarded([&] {
    require_between("updated", updated_count, 0, kMaxStreamsUpdated);
    require_between("inputs", input_count, updated_count == 1 ? 0 : 1, updated_count == 0 ? kMaxStreamsRead : 1);
    if (output != nullptr && updated_count > 0) {
      fail_value("`output` must be NULL where arrays are updated. Received: an array");
    }
    StreamPass pass{};
    pass.input_count = input_count;
    pass.updated_count = updated_count;
    pass.non_temporal = non_temporal != 0;
    if (input_count > 0) require_pointer("inputs", inputs);
    if (updated_count > 0) require_pointer("updated", updated);
    const Argument first_array = input_count > 0 ? Argument{{"inputs", 0}, inputs} : Argument{{"updated", 0}, updated};
    require_tensor(first_array);
    const fnn_tensor& first = *first_array.tensor;
    pass.count = element_count(first);
    Memory memory;
    for (int32_t i = 0; i < input_count; ++i) {
      const Argument input{{"inputs", i}, &inputs[i]};
      pass.inputs[i] = stream_data(input, first);
      memory.input(input);
    }
    for (int32_t i = 0; i < updated_count; ++i) {
      const Argument array{{"updated", i}, &updated[i]};
      pass.updated[i] = stream_data(array, first);
      memory.output(array);
    }
    if (output != nullptr) {
      const Argument array{"output", output};
      pass.output = stream_data(array, first);
      memory.output(array);
    }
    memory.check();
    if (on_cuda(first)) {
      require_done(cuda_backend().stream_pass(pass, cuda_place(first.device_id)));
    } else {
      cpu_backend().stream_pass(pass);
    }
  });
}
