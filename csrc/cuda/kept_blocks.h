// Blocks of device memory that nobody has just now, and which blocks graphs use.
//
// A block is lent again on the same stream alone, where whoever used it before has finished. One that a graph uses may
// be anybody else's only when the graph is gone: it tells us, by a user object of CUDA's that it owns.
#pragma once

#include <mutex>
#include <vector>

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

// A stream, and the capture that it takes part in.
struct StreamPlace {
  cudaStream_t stream = nullptr;
  unsigned long long id = 0;          // unlike a handle, no other stream's later
  unsigned long long capture_id = 0;  // 0: none
  cudaGraph_t graph = nullptr;        // that is captured

  static cudaError_t of(cudaStream_t stream, StreamPlace* place) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    *place = {};
    place->stream = stream;
    const cudaError_t e = cudaStreamGetCaptureInfo(stream, &status, &place->capture_id, &place->graph);
    if (e != cudaSuccess) return e;
    if (status == cudaStreamCaptureStatusNone) place->capture_id = 0;
    return cudaStreamGetId(stream, &place->id);
  }
};

struct Block {
  char* data = nullptr;
  size_t bytes = 0;
  int device = 0;
  unsigned long long stream_id = 0;
  unsigned long long capture_id = 0;  // of the graph that uses it; 0: none
};

// While it lives its thread may allocate and free beside a capture that another thread, or another stream, has begun in
// CUDA's default mode, for whose graph the memory is not: else CUDA refuses, and ends that capture.
class BesideCaptures {
 public:
  BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  BesideCaptures(const BesideCaptures&) = delete;
  BesideCaptures& operator=(const BesideCaptures&) = delete;
  ~BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// CUDA is not called with the lock held: it may be what another thread waits for that a graph's end has called.
class KeptBlocks {
 public:
  // Streams that are gone leave blocks that nobody will ever take: the oldest beyond so many are freed.
  static constexpr size_t kMostIdle = 256;

  // Outlives whatever gives back at exit.
  static KeptBlocks& all() {
    static auto* all = new KeptBlocks;
    return *all;
  }

  // `within_its_graph`: later calls of the same capture may have the block, as their work comes after.
  void give_back(Block block, bool within_its_graph) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto use = find(block.data);
    if (use == uses_.end()) {
      block.capture_id = 0;
    } else if (!within_its_graph) {
      use->left = block;
      return;
    }
    idle_.push_back(block);
  }

  // At least `bytes` of the current device. Nothing is allocated while a graph is captured:
  // cudaErrorStreamCaptureUnsupported.
  cudaError_t take(size_t bytes, const StreamPlace& place, Block& taken) {
    int device = 0;
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return e;
    if (take_idle(bytes, device, place, taken)) return cudaSuccess;
    if (place.capture_id != 0) return cudaErrorStreamCaptureUnsupported;
    const BesideCaptures allowed;
    if (const cudaError_t e = free_idle(kMostIdle, nullptr); e != cudaSuccess) return e;
    // Powers of two, so that what is given back fits others.
    size_t size = 4096;
    while (size < bytes) size *= 2;
    void* data = nullptr;
    if (const cudaError_t e = cudaMalloc(&data, size); e != cudaSuccess) return e;
    taken = {static_cast<char*>(data), size, device, place.id, 0};
    return cudaSuccess;
  }

  // The graph that is captured uses the block. One that cannot tell when it goes keeps it for good.
  void retain(const StreamPlace& place, char* data) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto use = find(data);
      if (use != uses_.end()) {
        ++use->graphs;
      } else {
        uses_.push_back({data, 1, {}});
      }
    }
    cudaUserObject_t object = nullptr;
    if (cudaUserObjectCreate(&object, data, graph_is_gone, 1, cudaUserObjectNoDestructorSync) != cudaSuccess ||
        cudaGraphRetainUserObject(place.graph, object, 1, cudaGraphUserObjectMove) != cudaSuccess) {
      cudaGetLastError();
    }
  }

  bool in_graph(char* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return find(data) != uses_.end();
  }

  // Frees all that nobody has, and adds up its bytes.
  cudaError_t release(int64_t* bytes) { return free_idle(0, bytes); }

 private:
  struct Use {
    char* data;
    int64_t graphs;
    Block left;  // by its last owner, who is gone
  };

  // CUDA calls it when no graph made of the captured one is left and none is at work, on a thread of its own, and no call
  // of CUDA's waits for that. It must not call CUDA.
  static void CUDART_CB graph_is_gone(void* data) {
    KeptBlocks& all = KeptBlocks::all();
    const std::lock_guard<std::mutex> lock(all.mutex_);
    const auto use = all.find(static_cast<char*>(data));
    if (use == all.uses_.end() || --use->graphs > 0) return;
    for (Block& block : all.idle_) {
      if (block.data == data) block.capture_id = 0;
    }
    if (use->left.data != nullptr) {
      use->left.capture_id = 0;
      all.idle_.push_back(use->left);
    }
    all.uses_.erase(use);
  }

  std::vector<Use>::iterator find(const char* data) {
    auto use = uses_.begin();
    while (use != uses_.end() && use->data != data) ++use;
    return use;
  }

  bool take_idle(size_t bytes, int device, const StreamPlace& place, Block& taken) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = idle_.end();
    for (auto b = idle_.begin(); b != idle_.end(); ++b) {
      if (b->device != device || b->stream_id != place.id || b->bytes < bytes) continue;
      if (b->capture_id != 0 && b->capture_id != place.capture_id) continue;
      if (best == idle_.end() || b->bytes < best->bytes) best = b;
    }
    if (best == idle_.end()) return false;
    taken = *best;
    idle_.erase(best);
    return true;
  }

  // The oldest block that no graph uses, where there are more than `most`.
  bool take_oldest(size_t most, Block& taken) {
    const std::lock_guard<std::mutex> lock(mutex_);
    size_t idle = 0;
    auto oldest = idle_.end();
    for (auto b = idle_.begin(); b != idle_.end(); ++b) {
      if (b->capture_id != 0) continue;
      if (idle++ == 0) oldest = b;
    }
    if (idle <= most) return false;
    taken = *oldest;
    idle_.erase(oldest);
    return true;
  }

  // Frees the oldest blocks that no graph uses until `most` are left.
  cudaError_t free_idle(size_t most, int64_t* bytes) {
    Block block;
    while (take_oldest(most, block)) {
      if (const cudaError_t e = cudaFree(block.data); e != cudaSuccess) {
        give_back(block, false);
        return e;
      }
      if (bytes != nullptr) *bytes += static_cast<int64_t>(block.bytes);
    }
    return cudaSuccess;
  }

  std::mutex mutex_;
  std::vector<Block> idle_;  // in the order they were given back
  std::vector<Use> uses_;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
