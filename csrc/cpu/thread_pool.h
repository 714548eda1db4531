// The thread pool: one for the process, built on first use, rebuilt after fork.
//
// A call that finds the pool busy runs its tasks inline, so that several host threads may call at once and no call
// waits for another. Tasks are handed out by a counter; which thread runs a task never changes a result.
#pragma once

#include <stdint.h>

namespace fusednn {

using Task = void (*)(const void* context, int64_t index);

// Runs task(context, 0 .. count - 1) and returns when all are done. Plain function pointer: callable from the
// instruction sets' objects without instantiating anything there.
void run_parallel(int64_t count, Task task, const void* context);

// The same, if the pool has a thread for each of the tasks, so that none waits for another to end, and nothing else to
// do. Else false, and nothing was run.
bool run_on_threads_each(int64_t count, Task task, const void* context);

// Of the calling thread's calls: the pool's, or the host's (host.h).
int threads_of_call();
int num_threads();            // of the pool
void set_num_threads(int n);  // n >= 1, obeyed as given
const char* num_threads_source();
// `follower` is called with the number now and after each change. Null: nobody is any more.
void follow_num_threads(void (*follower)(int n));

// Reads FUSEDNN_NUM_THREADS and OMP_NUM_THREADS. Returns null, or what is wrong.
const char* read_thread_environment();

}  // namespace fusednn
