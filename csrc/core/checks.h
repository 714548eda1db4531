// Argument checks, the same for Python, C and every adapter. Each throws a Failure that names the argument, what it
// must be and what was received; no text is written and nothing allocated where nothing is wrong.
#pragma once

#include "core/name.h"
#include "core/tensor.h"

namespace fusednn {

// A tensor argument with the name that users know it by.
struct Argument {
  Name name;
  const fnn_tensor* tensor;
};

// There is one, and its description holds together: lengths, number of elements, memory, flags.
void require_tensor(const Argument& a);
void require_float(const Argument& a);  // one of the four dtypes
void require_dtype(const Argument& a, int32_t dtype);
// On `beside`'s device; without it, on one that this machine has.
void require_device(const Argument& a, const fnn_tensor* beside);
// For what has no kernel elsewhere.
void require_cpu(const Argument& a);
void require_writable(const Argument& a);
void require_dense(const Argument& a);
void require_shape_of(const Argument& a, const Argument& model);
void require_layout_of(const Argument& a, const Argument& model);
void require_length(const Argument& a, int64_t length);

// All that a full-size array needs: a float dtype, a device, dense; `model`, if any, gives those, shape and layout.
void require_array(const Argument& a, const Argument* model);
// All that a per-channel array needs; `beside` is on its device.
void require_vector(const Argument& a, int32_t dtype, int64_t length, const fnn_tensor* beside);

void require_finite(const char* name, double value);
void require_non_negative(const char* name, double value);
void require_unit_interval(const char* name, double value);

[[noreturn]] void fail_null(const char* name);

// A place to write to, a list or an object from another program.
template <class T>
void require_pointer(const char* name, const T* given) {
  if (given == nullptr) fail_null(name);
}

// Lists from other programs are walked along: not as far as a number that went astray would lead.
void require_list_count(const char* name, int64_t count);

void require_struct_size(const char* name, size_t size, size_t expected);

// A struct from another program: its size tells which version of it that program knows.
template <class Struct>
void require_struct(const char* name, const Struct* given) {
  require_pointer(name, given);
  require_struct_size(name, given->size, sizeof(Struct));
}

// The arrays of one call. Outputs may not overlap anything, except that an output which `may_replace` names may be the
// very same memory.
class Memory {
 public:
  void input(const Argument& a);
  void output(const Argument& a, const fnn_tensor* may_replace = nullptr, const fnn_tensor* or_else = nullptr);
  void check() const;

 private:
  struct Entry {
    Argument argument;
    Range bytes;
    bool written;
    const fnn_tensor* may_replace[2];
  };
  static constexpr int kMost = 12;  // arrays of a call that takes no lists

  Entry& add(const Argument& a, bool written);

  Entry entries_[kMost];
  int count_ = 0;
};

// Nothing in common, for calls with lists.
void require_apart(const Argument& output, const Argument& other);

}  // namespace fusednn
