#include "cpu/together.h"

#include <pthread.h>

#include <chrono>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "core/float_mode.h"

namespace fusednn {
namespace {

std::mutex turn;
// Set in threads that are running a task: it must not wait for the turn that it is part of to end.
thread_local bool inside = false;

// In a forked child the thread whose turn it was is gone.
void forget_turn_after_fork() { new (&turn) std::mutex(); }

struct Work {
  Task task;
  const void* context;
};

void run_inside(const void* context, int64_t index) {
  const auto* work = static_cast<const Work*>(context);
  const bool outer = inside;
  inside = true;
  work->task(work->context, index);
  inside = outer;
}

std::thread new_thread(Task task, const void* context, int64_t index) {
  for (;;) {
    try {
      return std::thread([=] {
        const FloatMode mode;
        task(context, index);
      });
    } catch (const std::system_error&) {
      // None to be had now. With fewer threads the tasks would wait for one another for ever: wait for one.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

void run_on_new_threads(int64_t count, Task task, const void* context) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count - 1));
  for (int64_t i = 1; i < count; ++i) threads.push_back(new_thread(task, context, i));
  task(context, 0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void run_together(int64_t count, Task task, const void* context) {
  if (count < 1) return;
  static const int registered = pthread_atfork(nullptr, nullptr, forget_turn_after_fork);
  (void)registered;
  std::unique_lock<std::mutex> lock(turn, std::defer_lock);
  if (!inside) lock.lock();
  const Work work{task, context};
  if (count > 1 && run_on_threads_each(count, &run_inside, &work)) return;
  run_on_new_threads(count, &run_inside, &work);
}

}  // namespace fusednn
