// Work given to streams: done at once, or later, or recorded.
//
// At once is the default: nothing is allocated, and a failing kernel is the launch's own error. Later (`deferred`) is what
// a GPU does: work waits, in order, until the host waits for the device. So a driver that changes memory which a copy
// still reads shows. Between begin_capture() and end_capture() work is only recorded, as into a CUDA graph, which
// replay() does again and again: whatever the host computed for one call stays as it was.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "runtime.h"

namespace gpusim {

using Work = std::function<cudaError_t()>;

}  // namespace gpusim

struct GpusimUserObject {
  std::shared_ptr<void> object;
};

// What was captured, and user objects that go with it.
struct GpusimGraph {
  std::vector<gpusim::Work> work;
  std::vector<std::shared_ptr<void>> owned;
};

namespace gpusim {

// Whether work must be given to add() rather than done.
bool is_queued();
cudaError_t add(Work work);
bool is_capturing();
unsigned long long captures();  // begun so far
cudaGraph_t captured_graph();
bool is_pending();

// Does what waits; the first error.
cudaError_t do_pending();

void begin_capture();
void end_capture();
cudaError_t replay();
// Puts what was captured aside; launch_kept() gives it to the stream as often as wanted.
int64_t keep_graph();
cudaError_t launch_kept(int64_t number);
void destroy_kept(int64_t number);
// Forgets the graph and what waits.
void clear_work();

}  // namespace gpusim
