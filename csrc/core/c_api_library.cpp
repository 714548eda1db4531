// The C API's functions about the library itself.
#include "core/float_mode.h"
#include "core/status.h"
#include "cpu/dispatch.h"
#include "cpu/patience.h"
#include "cpu/thread_pool.h"
#include "cpu/together.h"

using namespace fusednn;

int32_t fnn_abi_version(void) { return FNN_ABI_VERSION; }
int32_t fusednn_abi_version(void) { return fnn_abi_version(); }

const char* fnn_version(void) { return FNN_VERSION; }

fnn_status fnn_initialize(void) {
  return guarded([] {});
}

const char* fnn_instruction_set(void) { return fnn_initialize() == FNN_SUCCESS ? instruction_set() : nullptr; }

const char* fnn_available_instruction_set(int32_t index) { return available_instruction_set(index); }

const char* fnn_cuda_build(void) { return FNN_CUDA_BUILD; }

const char* fnn_cuda_reason(void) { return FNN_CUDA_REASON; }

const char* fnn_compiler(void) { return FNN_COMPILER; }

fnn_status fnn_set_num_threads(int32_t n) {
  return guarded([n] {
    if (n < 1 || n > 4096) fail_value("`n` must be from 1 to 4096. Received: n=" + std::to_string(n));
    set_num_threads(n);
  });
}

int32_t fnn_get_num_threads(void) { return fnn_initialize() == FNN_SUCCESS ? num_threads() : 1; }

const char* fnn_num_threads_source(void) { return num_threads_source(); }

fnn_status fnn_follow_num_threads(void (*follower)(int n)) {
  return guarded([follower] { follow_num_threads(follower); });
}

void fnn_run_tasks(void (*task)(int index, void* data), int count, void* data) {
  const FloatMode mode;
  const auto run_one = [&](int64_t index) { task(static_cast<int>(index), data); };
  using One = decltype(run_one);
  keep_workers_awake();
  run_parallel(count, [](const void* work, int64_t index) { (*static_cast<const One*>(work))(index); }, &run_one);
}

void fnn_run_jobs(int wait, void (*job)(int index, void* data, int context), int count, size_t size, void* jobs,
                  int context) {
  (void)wait;
  const auto run_one = [&](int64_t index) {
    job(static_cast<int>(index), static_cast<char*>(jobs) + static_cast<size_t>(index) * size, context);
  };
  using Job = decltype(run_one);
  run_together(count, [](const void* work, int64_t index) { (*static_cast<const Job*>(work))(index); }, &run_one);
}
