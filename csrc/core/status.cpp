#include "core/status.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <new>

#include "cpu/dispatch.h"
#include "cpu/host.h"
#include "cpu/thread_pool.h"

namespace fusednn {
namespace {

thread_local std::string last_error;

// What is wrong with the environment, or empty. Read once: the instruction set must not change under way.
const std::string& environment_error() {
  static const std::string error = [] {
    if (const char* expectation = read_thread_environment()) {
      return std::string("`FUSEDNN_NUM_THREADS` ") + expectation +
             ". Received: FUSEDNN_NUM_THREADS=" + std::getenv("FUSEDNN_NUM_THREADS");
    }
    return choose_instruction_set();
  }();
  return error;
}

}  // namespace

std::string number(double value) {
  if (std::isnan(value)) return "nan";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

void require_initialized() {
  if (!environment_error().empty()) fail_value(environment_error());
}

void require_callbacks_done() {
  Host* const lender = host();
  if (lender == nullptr || !lender->callback_failed) return;
  lender->callback_failed = false;
  fail_value(
      "`parallel_for` must call each task once, wait for all of them and return. Received: tasks that were not done "
      "when it ended; the outputs are not complete");
}

void require_workspace(bool allocated) {
  if (!allocated) throw std::bad_alloc();
}

fnn_status record_failure() noexcept {
  try {
    throw;
  } catch (const Failure& failure) {
    last_error = failure.message;
    return failure.status;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory for the workspace";
    return FNN_ERROR_MEMORY;
  } catch (const std::exception& e) {
    last_error = e.what();
    return FNN_ERROR_INTERNAL;
  } catch (...) {
    last_error = "unknown failure";
    return FNN_ERROR_INTERNAL;
  }
}

}  // namespace fusednn

extern "C" const char* fnn_last_error(void) { return fusednn::last_error.c_str(); }
