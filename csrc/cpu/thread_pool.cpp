#include "cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "core/float_mode.h"
#include "cpu/host.h"
#include "cpu/patience.h"
#include "cpu/thread_placement.h"

namespace fusednn {
namespace {

using Clock = std::chrono::steady_clock;

// Long enough to bridge the gap between two calls of a training step, short enough not to starve a neighbour.
constexpr auto kSpinTime = std::chrono::microseconds(20);
// While products of matrices keep coming: whoever fell asleep gets his CPU back from a neighbour only when
// the system's next tick says so, milliseconds later, and all of them wait for him.
constexpr auto kLongSpinTime = std::chrono::microseconds(300);
constexpr auto kLongSpinsFor = std::chrono::milliseconds(20);

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until `value` differs from `old`: spins for a while, then sleeps.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old, const std::atomic<Clock::rep>& long_spins_until) {
  const auto now = Clock::now();
  const bool patient = now.time_since_epoch().count() < long_spins_until.load(std::memory_order_relaxed);
  const auto deadline = now + (patient ? kLongSpinTime : kSpinTime);
  do {
    for (int i = 0; i < 64; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (Clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
}

// A round of work is announced by `state`: its number, whether workers may still join, and how many are at work.
// A worker that sleeps through a round never delays it.
// 32 bits, so that waiting is one futex; that the number wraps is harmless, a worker would only miss one round.
constexpr uint32_t kWorkers = 0x0fff;
constexpr uint32_t kOpen = 0x1000;
constexpr uint32_t kRound = 0x2000;
constexpr int kMaxThreads = 4096;

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}

  int threads() const { return threads_; }

  // Whether `count` tasks can have a thread each: then the next round is theirs. The caller holds `busy`.
  bool has_threads_for(int64_t count) {
    start_workers();
    if (count > started_ + 1) return false;
    keep_awake();
    return true;
  }

  void keep_awake() {
    const auto until = Clock::now() + kLongSpinsFor;
    long_spins_until_.store(until.time_since_epoch().count(), std::memory_order_relaxed);
  }

  // The caller holds `busy`.
  void run(int64_t count, Task task, const void* context) {
    start_workers();
    task_ = task;
    context_ = context;
    count_ = count;
    caller_cpu_ = current_cpu();
    next_.store(0, std::memory_order_relaxed);
    const uint32_t round = (state_.load(std::memory_order_relaxed) & ~(kOpen | kWorkers)) + kRound;
    state_.store(round | kOpen, std::memory_order_release);
    state_.notify_all();
    take_tasks();
    uint32_t state = state_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while ((state & kWorkers) != 0) {
      wait_for_change(state_, state, long_spins_until_);
      state = state_.load(std::memory_order_acquire);
    }
  }

  // Ends the workers. The caller holds `busy`, or nobody else knows this pool.
  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    state_.fetch_add(kRound, std::memory_order_release);
    state_.notify_all();
    for (int i = 0; i < started_; ++i) workers_[i].join();
    delete[] workers_;
    workers_ = nullptr;
    started_ = 0;
  }

  std::mutex busy;

 private:
  void start_workers() {
    if (workers_ != nullptr || stopping_.load(std::memory_order_relaxed)) return;
    workers_ = new std::thread[static_cast<size_t>(threads_)];
    try {
      for (; started_ < threads_ - 1; ++started_) workers_[started_] = std::thread([this] { work(); });
    } catch (const std::system_error&) {
      // The system refuses more threads: go on with those that exist.
    }
  }

  void take_tasks() {
    for (;;) {
      const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= count_) return;
      task_(context_, index);
    }
  }

  void work() {
    const FloatMode mode;
    uint32_t seen = 0;
    for (;;) {
      uint32_t state = state_.load(std::memory_order_acquire);
      if (stopping_.load(std::memory_order_relaxed)) return;
      const bool joinable = (state & kOpen) != 0 && (state & ~(kOpen | kWorkers)) != seen;
      if (!joinable) {
        wait_for_change(state_, state, long_spins_until_);
        continue;
      }
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
      seen = state & ~(kOpen | kWorkers);
      if (current_cpu() == caller_cpu_) leave_cpu(caller_cpu_, threads_);
      take_tasks();
      state_.fetch_sub(1, std::memory_order_acq_rel);
      state_.notify_all();
    }
  }

  const int threads_;
  std::thread* workers_ = nullptr;
  int started_ = 0;
  Task task_ = nullptr;
  const void* context_ = nullptr;
  int64_t count_ = 0;
  int caller_cpu_ = -1;
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> state_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<Clock::rep> long_spins_until_{0};
};

std::mutex settings;
std::atomic<int> configured{0};
std::atomic<const char*> source{"affinity"};
void (*follower)(int n) = nullptr;
// Never destroyed: workers may outlive static destructors, and a forked child abandons its parent's pool.
std::atomic<Pool*> pool{nullptr};
// Set in threads that are running a task: a task that calls back in runs inline.
thread_local bool inside = false;

int affinity_count() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int>(n) : 1;
}

// A positive number, 0 where the variable is unset or empty, -1 where it is something else.
int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  // OMP_NUM_THREADS may be a list, one number per nesting level: the first counts.
  const bool ended = *end == '\0' || *end == ',';
  return ended && n >= 1 && n <= kMaxThreads ? static_cast<int>(n) : -1;
}

// In a forked child only the calling thread lives on: forget the parent's pool and its locks, build anew when needed.
void forget_pool_after_fork() {
  pool.store(nullptr, std::memory_order_relaxed);
  new (&settings) std::mutex();
}

Pool& current_pool() {
  Pool* p = pool.load(std::memory_order_acquire);
  if (p != nullptr) return *p;
  const std::lock_guard<std::mutex> lock(settings);
  p = pool.load(std::memory_order_acquire);
  if (p == nullptr) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool_after_fork);
    (void)registered;
    p = new Pool(num_threads());
    pool.store(p, std::memory_order_release);
  }
  return *p;
}

}  // namespace

const char* read_thread_environment() {
  const int own = number_in("FUSEDNN_NUM_THREADS");
  if (own < 0) return "must be an integer from 1 to 4096";
  const int affinity = affinity_count();
  // A bad OMP_NUM_THREADS is another library's business: ignored.
  const int omp = number_in("OMP_NUM_THREADS");
  if (own > 0) {
    configured = own;
    source = "FUSEDNN_NUM_THREADS";
  } else if (omp > 0) {
    configured = omp < affinity ? omp : affinity;
    source = "OMP_NUM_THREADS";
  } else {
    configured = affinity;
    source = "affinity";
  }
  return nullptr;
}

int num_threads() {
  const int n = configured.load(std::memory_order_relaxed);
  return n > 0 ? n : affinity_count();
}

int threads_of_call() {
  const Host* lender = host();
  return lender != nullptr && lender->parallel_for != nullptr ? lender->threads : num_threads();
}

const char* num_threads_source() { return source.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
  const std::lock_guard<std::mutex> lock(settings);
  source = "set_num_threads";
  if (n == num_threads()) {
    configured = n;
    return;
  }
  configured = n;
  if (follower != nullptr) follower(n);
  // A call may be about to use the old pool (it then works alone): stopped, never freed; a few hundred bytes a change.
  if (Pool* old = pool.exchange(nullptr)) {
    const std::lock_guard<std::mutex> wait_until_idle(old->busy);
    old->stop();
  }
}

void follow_num_threads(void (*new_follower)(int n)) {
  const std::lock_guard<std::mutex> lock(settings);
  follower = new_follower;
  if (follower != nullptr) follower(num_threads());
}

namespace {

struct LentTask {
  Task task;
  const void* context;
  mutable std::atomic<int64_t> done{0};
};

// The host's threads have the host's floating-point mode.
void run_lent(const void* lent, int64_t index) {
  const FloatMode mode;
  const auto& work = *static_cast<const LentTask*>(lent);
  work.task(work.context, index);
  work.done.fetch_add(1, std::memory_order_relaxed);
}

// Kernels cannot be unwound through: what goes wrong here is told at their end.
void run_on_lent_threads(Host& lender, int64_t count, Task task, const void* context) {
  const LentTask lent{task, context};
  try {
    lender.parallel_for(lender.parallel_context, count, &run_lent, &lent);
  } catch (...) {
    lender.callback_failed = true;
  }
  if (lent.done.load(std::memory_order_relaxed) != count) lender.callback_failed = true;
}

}  // namespace

void run_parallel(int64_t count, Task task, const void* context) {
  Host* lender = host();
  if (count > 1 && lender != nullptr && lender->parallel_for != nullptr) {
    run_on_lent_threads(*lender, count, task, context);
    return;
  }
  if (count > 1 && num_threads() > 1 && !inside) {
    Pool& p = current_pool();
    if (p.busy.try_lock()) {
      const std::lock_guard<std::mutex> lock(p.busy, std::adopt_lock);
      inside = true;
      p.run(count, task, context);
      inside = false;
      return;
    }
  }
  for (int64_t i = 0; i < count; ++i) task(context, i);
}

void keep_workers_awake() {
  if (!inside && num_threads() > 1) current_pool().keep_awake();
}

bool run_on_threads_each(int64_t count, Task task, const void* context) {
  if (inside || count > num_threads()) return false;
  Pool& p = current_pool();
  if (!p.busy.try_lock()) return false;
  const std::lock_guard<std::mutex> lock(p.busy, std::adopt_lock);
  if (!p.has_threads_for(count)) return false;
  inside = true;
  p.run(count, task, context);
  inside = false;
  return true;
}

}  // namespace fusednn
