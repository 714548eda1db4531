#include "stream_work.h"

#include <utility>
#include <vector>

#include "state.h"

namespace gpusim {
namespace {

std::vector<Work> pending, graph;
bool capturing = false;
unsigned long long begun = 0;

}  // namespace

bool is_queued() { return capturing || settings.deferred; }
bool is_capturing() { return capturing; }
unsigned long long captures() { return begun; }
bool is_pending() { return !pending.empty(); }

cudaError_t add(Work work) {
  (capturing ? graph : pending).push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t do_pending() {
  cudaError_t first = cudaSuccess;
  const std::vector<Work> all = std::exchange(pending, {});
  for (const Work& work : all) {
    const cudaError_t e = work();
    if (first == cudaSuccess) first = e;
  }
  return first;
}

void begin_capture() {
  graph.clear();
  capturing = true;
  ++begun;
}
void end_capture() { capturing = false; }

cudaError_t replay() {
  cudaError_t first = do_pending();
  for (const Work& work : graph) {
    const cudaError_t e = work();
    if (first == cudaSuccess) first = e;
  }
  return first;
}

void clear_work() {
  pending.clear();
  graph.clear();
  capturing = false;
}

}  // namespace gpusim
