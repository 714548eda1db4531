#include "stream_work.h"

#include <map>
#include <utility>
#include <vector>

#include "state.h"

namespace gpusim {
namespace {

std::vector<Work> pending;
GpusimGraph graph;
std::map<int64_t, GpusimGraph> kept;
bool capturing = false;
unsigned long long begun = 0;

}  // namespace

bool is_queued() { return capturing || settings.deferred; }
bool is_capturing() { return capturing; }
unsigned long long captures() { return begun; }
cudaGraph_t captured_graph() { return &graph; }
bool is_pending() { return !pending.empty(); }

cudaError_t add(Work work) {
  (capturing ? graph.work : pending).push_back(std::move(work));
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
  graph = {};
  capturing = true;
  ++begun;
}
void end_capture() { capturing = false; }

cudaError_t replay() {
  cudaError_t first = do_pending();
  for (const Work& work : graph.work) {
    const cudaError_t e = work();
    if (first == cudaSuccess) first = e;
  }
  return first;
}

int64_t keep_graph() {
  static int64_t last = 0;
  kept[++last] = std::exchange(graph, {});
  return last;
}

cudaError_t launch_kept(int64_t number) {
  const auto it = kept.find(number);
  if (it == kept.end()) return cudaErrorInvalidValue;
  for (const Work& work : it->second.work) {
    if (is_queued()) {
      add(work);
    } else if (const cudaError_t e = work(); e != cudaSuccess) {
      return e;
    }
  }
  return cudaSuccess;
}

void destroy_kept(int64_t number) { kept.erase(number); }

void clear_work() {
  pending.clear();
  graph = {};
  kept.clear();
  capturing = false;
}

}  // namespace gpusim
