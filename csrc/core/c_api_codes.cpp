// The C API's conversions between float32 arrays and 8-bit codes of optimizer states.
#include <cstring>

#include "core/checks.h"
#include "core/status.h"
#include "math/quantize.h"

using namespace fusednn;

namespace {

// What both directions need: codes and values of one shape, laid out alike, and a scale for each block.
void check_pair(const fnn_tensor* codes, const fnn_tensor* scales, const fnn_tensor* values) {
  const Argument c{"codes", codes};
  const Argument s{"scales", scales};
  const Argument v{"values", values};
  for (const Argument& a : {c, s, v}) require_tensor(a);
  if (!is_codes(codes->dtype)) {
    fail_type("`codes` must be signed or unsigned codes. Received: dtype=" + std::string(dtype_name(codes->dtype)));
  }
  for (const Argument& a : {c, s, v}) require_cpu(a);
  require_dtype(s, FNN_FLOAT32);
  require_dtype(v, FNN_FLOAT32);
  require_shape_of(v, c);
  require_dense(c);
  require_layout_of(v, c);
  require_length(s, (element_count(*codes) + kCodeBlock - 1) / kCodeBlock);
}

float float_at(const fnn_tensor& t, int64_t i) {
  float value;
  std::memcpy(&value, static_cast<const char*>(t.data) + i * 4, sizeof value);
  return value;
}

}  // namespace

fnn_status fnn_codes_to_float(const fnn_tensor* codes, const fnn_tensor* scales, const fnn_tensor* values) {
  return guarded([&] {
    check_pair(codes, scales, values);
    Memory memory;
    memory.input({"codes", codes});
    memory.input({"scales", scales});
    memory.output({"values", values});
    memory.check();
    const bool is_signed = codes->dtype == FNN_SIGNED_CODES;
    const auto* code = static_cast<const uint8_t*>(codes->data);
    const int64_t count = element_count(*codes);
    for (int64_t i = 0; i < count; ++i) {
      const float scale = float_at(*scales, i / kCodeBlock);
      const float value = is_signed ? decoded<true>(code[i], scale) : decoded<false>(code[i], scale);
      std::memcpy(static_cast<char*>(values->data) + i * 4, &value, sizeof value);
    }
  });
}

fnn_status fnn_codes_from_float(const fnn_tensor* values, const fnn_tensor* codes, const fnn_tensor* scales) {
  return guarded([&] {
    check_pair(codes, scales, values);
    Memory memory;
    memory.input({"values", values});
    memory.output({"codes", codes});
    memory.output({"scales", scales});
    memory.check();
    const bool is_signed = codes->dtype == FNN_SIGNED_CODES;
    const int64_t count = element_count(*codes);
    for (int64_t i = 0; i < count && !is_signed; ++i) {
      const float value = float_at(*values, i);
      if (value < 0.0f) {
        fail_value("`values` must not be negative where the codes are unsigned. Received: " +
                   number(static_cast<double>(value)));
      }
    }
    auto* code = static_cast<uint8_t*>(codes->data);
    for (int64_t begin = 0; begin < count; begin += kCodeBlock) {
      const int64_t end = begin + kCodeBlock < count ? begin + kCodeBlock : count;
      uint32_t largest = 0;
      for (int64_t i = begin; i < end; ++i) {
        const uint32_t magnitude = bit_cast<uint32_t>(float_at(*values, i)) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
      }
      const uint32_t scale = scale_of(largest);
      std::memcpy(static_cast<char*>(scales->data) + begin / kCodeBlock * 4, &scale, sizeof scale);
      const bool any = scale != 0 && scale < 0x7f800000u;
      const uint32_t origin = code_origin(scale, is_signed);
      for (int64_t i = begin; i < end; ++i) {
        const uint32_t bits = bit_cast<uint32_t>(float_at(*values, i));
        const uint32_t nearest =
            is_signed ? encoded<true>(bits, origin, kToNearest) : encoded<false>(bits, origin, kToNearest);
        code[i] = any ? static_cast<uint8_t>(nearest) : uint8_t{0};
      }
    }
  });
}
