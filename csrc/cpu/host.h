// What the calling program lends to the calls of one thread: its threads and its memory. Where and in what memory work
// is done never changes a result.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpu/thread_pool.h"

namespace fusednn {

struct Host {
  // Null: the library's own threads.
  void (*parallel_for)(void* context, int64_t count, Task task, const void* data) = nullptr;
  void* parallel_context = nullptr;
  int threads = 0;
  // Null: the library's own memory.
  void* (*allocate)(void* context, size_t bytes, size_t alignment) = nullptr;
  void (*release)(void* context, void* memory, size_t bytes) = nullptr;
  void* memory_context = nullptr;
  // Allocated and kept for the next call.
  void* workspace = nullptr;
  size_t workspace_size = 0;
  // `parallel_for` did not do each task once, or threw: the results of the call are worth nothing.
  bool callback_failed = false;
};

// Of the calling thread; null where everything is the library's own.
Host* host();
void set_host(Host* host);

}  // namespace fusednn
