// Failures inside core/ are exceptions that carry a status; the C API's boundary turns them into codes.
#pragma once

#include <string>

#include "core/float_mode.h"
#include "fusednn/fusednn.h"

namespace fusednn {

struct Failure {
  fnn_status status;
  std::string message;
};

[[noreturn]] inline void fail_type(std::string message) { throw Failure{FNN_ERROR_TYPE, std::move(message)}; }
[[noreturn]] inline void fail_value(std::string message) { throw Failure{FNN_ERROR_VALUE, std::move(message)}; }
[[noreturn]] inline void fail_unsupported(std::string message) {
  throw Failure{FNN_ERROR_UNSUPPORTED, std::move(message)};
}

// The shortest text that reads back as the same number, as Python writes it.
std::string number(double value);

// Throws what fnn_initialize reports.
void require_initialized();

// Throws where the calling program's threads left tasks of this call undone.
void require_callbacks_done();

// Records the failure that is being handled as the thread's last, and returns its status.
fnn_status record_failure() noexcept;

// The body of a C function: floating-point mode set and restored, nothing thrown across the boundary.
template <class Body>
fnn_status guarded(const Body& body) noexcept {
  try {
    require_initialized();
    const FloatMode mode;
    body();
    require_callbacks_done();
    return FNN_SUCCESS;
  } catch (...) {
    return record_failure();
  }
}

// A backend function's answer: false is a missing workspace.
void require_workspace(bool allocated);

}  // namespace fusednn
