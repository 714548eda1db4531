// The C API's contexts: what a program lends the library for the calls of one thread.
#include <atomic>
#include <memory>
#include <string>

#include "core/checks.h"
#include "core/device.h"
#include "core/status.h"
#include "cpu/host.h"

using namespace fusednn;

struct fnn_context {
  Host host;
  bool has_cuda = false;
  fnn_cuda_settings cuda{};
  std::atomic<bool> in_use{false};
};

namespace {

// A thread that ends leaves its context to others.
struct Chosen {
  fnn_context* context = nullptr;
  ~Chosen() { leave(); }

  void leave() {
    if (context == nullptr) return;
    set_host(nullptr);
    if (context->has_cuda) set_cuda_settings({});
    context->in_use.store(false, std::memory_order_release);
    context = nullptr;
  }
};

thread_local Chosen chosen;

void require_pair(const char* first, bool has_first, const char* second, bool has_second) {
  if (has_first == has_second) return;
  const std::string received = has_first ? first : second;
  fail_value("`" + std::string(first) + "` and `" + second + "` must be given together. Received: only `" + received +
             "`");
}

[[noreturn]] void fail_in_use() {
  fail_value("`context` must serve one thread at a time. Received: one that another thread uses");
}

void check(const fnn_context_settings& settings) {
  require_pair("allocate", settings.allocate != nullptr, "release", settings.release != nullptr);
  const std::string received = ". Received: num_threads=" + std::to_string(settings.num_threads);
  if (settings.parallel_for == nullptr && settings.num_threads != 0) {
    fail_value("`num_threads` must be 0 without `parallel_for`" + received);
  }
  if (settings.parallel_for != nullptr && (settings.num_threads < 1 || settings.num_threads > 4096)) {
    fail_value("`num_threads` must be from 1 to 4096 with `parallel_for`" + received);
  }
  if (settings.cuda != nullptr) check_cuda_settings(*settings.cuda);
}

}  // namespace

fnn_status fnn_context_create(const fnn_context_settings* settings, fnn_context** context) {
  return guarded([&] {
    require_struct("settings", settings);
    require_pointer("context", context);
    check(*settings);
    auto made = std::make_unique<fnn_context>();
    made->host.parallel_for = settings->parallel_for;
    made->host.parallel_context = settings->parallel_context;
    made->host.threads = settings->num_threads;
    made->host.allocate = settings->allocate;
    made->host.release = settings->release;
    made->host.memory_context = settings->memory_context;
    if (settings->cuda != nullptr) {
      made->has_cuda = true;
      made->cuda = *settings->cuda;
    }
    *context = made.release();
  });
}

fnn_status fnn_context_use(fnn_context* context) {
  return guarded([&] {
    if (context == chosen.context) return;
    bool in_use = false;
    if (context != nullptr && !context->in_use.compare_exchange_strong(in_use, true, std::memory_order_acq_rel)) {
      fail_in_use();
    }
    chosen.leave();
    if (context == nullptr) return;
    chosen.context = context;
    set_host(&context->host);
    if (context->has_cuda) set_cuda_settings(context->cuda);
  });
}

fnn_status fnn_context_destroy(fnn_context* context) {
  return guarded([&] {
    if (context == nullptr) return;
    if (context == chosen.context) chosen.leave();
    if (context->in_use.load(std::memory_order_acquire)) fail_in_use();
    const std::unique_ptr<fnn_context> owned(context);
    if (context->host.workspace != nullptr) {
      context->host.release(context->host.memory_context, context->host.workspace, context->host.workspace_size);
    }
  });
}
