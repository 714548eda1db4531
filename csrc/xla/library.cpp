// What Python asks the library of handlers before it registers them.
#include "fusednn/fusednn.h"
#include "xla/ffi/api/c_api.h"

extern "C" {

// The interface's version in the headers that this was compiled with: major * 1000 + minor.
__attribute__((visibility("default"))) int32_t fnn_xla_api_version(void);
int32_t fnn_xla_api_version(void) { return XLA_FFI_API_MAJOR * 1000 + XLA_FFI_API_MINOR; }
}
