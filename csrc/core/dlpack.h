// DLPack's memory layout (https://dmlc.github.io/dlpack/latest/c_api.html, version 1.3), as far as arrays are read here. Its
// structs may be declared anywhere: it is their layout that programs agree on, and tests compare it with another
// package's.
#pragma once

#include <cstdint>

#include "fusednn/fusednn.h"

namespace fusednn::dlpack {

struct Version {
  uint32_t major, minor;
};

enum DeviceType : int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };

struct Device {
  int32_t type;
  int32_t id;
};

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4 };

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

// As an fnn_dtype; -1 where the kernels have no such type.
inline int32_t float_dtype(const DataType& type) {
  if (type.lanes != 1) return -1;
  if (type.code == kBFloat) return type.bits == 16 ? FNN_BFLOAT16 : -1;
  if (type.code != kFloat) return -1;
  switch (type.bits) {
    case 16: return FNN_FLOAT16;
    case 32: return FNN_FLOAT32;
    case 64: return FNN_FLOAT64;
    default: return -1;
  }
}

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null is C order
  uint64_t byte_offset;

  void* first() const { return data == nullptr ? nullptr : static_cast<char*>(data) + byte_offset; }
  // To be asked before: an offset may be meant to be negative, and is not.
  bool offset_fits() const {
    return byte_offset <= PTRDIFF_MAX && byte_offset <= UINTPTR_MAX - reinterpret_cast<uintptr_t>(data);
  }
};

// In a capsule named "dltensor", which the consumer renames to "used_dltensor" and whose deleter it calls.
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

// In a capsule named "dltensor_versioned".
struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  Tensor tensor;
};
constexpr uint64_t kReadOnly = 1;
constexpr uint64_t kIsCopied = 2;  // for this consumer: nobody else sees what is written to it

// In a capsule named "dlpack_exchange_api", the attribute `__dlpack_c_exchange_api__` of types that offer it. Every
// function returns 0, or -1 with a Python exception set.
struct ExchangeHeader {
  Version version;
  ExchangeHeader* previous;  // of an older major version, or null
};

struct ExchangeApi {
  ExchangeHeader header;
  int (*allocate)(Tensor* prototype, ManagedVersioned** out, void* error_context,
                  void (*set_error)(void* error_context, const char* kind, const char* message));
  int (*managed_from_object)(void* object, ManagedVersioned** out);
  int (*managed_to_object)(ManagedVersioned* managed, void** object);
  // Owned by the object, and valid as long as nobody changes it. May be null.
  int (*tensor_from_object)(void* object, Tensor* out);
  int (*current_stream)(int32_t device_type, int32_t device_id, void** stream);
};

}  // namespace fusednn::dlpack
