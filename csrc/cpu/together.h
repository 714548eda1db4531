// Tasks that must all run at the same time.
#pragma once

#include "cpu/thread_pool.h"

namespace fusednn {

// Runs task(context, 0 .. count - 1), each on a thread of its own, and returns when all are done: they may wait for one
// another. On the pool's threads, or on new ones where these are too few or at work. Calls take turns, so that an
// index is one running task's alone; only a call from inside a task does not wait for that.
void run_together(int64_t count, Task task, const void* context);

}  // namespace fusednn
