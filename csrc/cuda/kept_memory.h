// Device memory that calls borrow and give back, never returned to the device: no call but the first of its size waits for
// an allocation. What was given back is lent again on the same stream alone, where whoever used it before has finished.
#pragma once

#include <mutex>
#include <vector>

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

class KeptMemory {
 public:
  // Of a list, whose later steps read what an earlier one wrote; or of a call, which writes all that it reads.
  enum class Of { kList, kCall };

  explicit KeptMemory(Of of = Of::kList) : of_(of) {}
  KeptMemory(const KeptMemory&) = delete;
  KeptMemory& operator=(const KeptMemory&) = delete;
  ~KeptMemory() {
    if (of_graph_ != nullptr) cudaFreeAsync(of_graph_, graph_stream_);
    // In a graph a call's work comes after that of the calls before it: its later calls may have the same memory.
    if (block_.data != nullptr && (!in_graph_ || of_ == Of::kCall)) give_back(block_);
  }

  // For a list that goes on, on `stream`: whether what another stream wrote may not be there yet, so that it is to be
  // written anew. Then the memory is given up. A capture of another stream's is not asked: whoever captures has waited.
  cudaError_t leave_other_streams(cudaStream_t stream, bool* left) {
    *left = false;
    if (block_.data == nullptr) return cudaSuccess;
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (const cudaError_t e = cudaStreamIsCapturing(stream, &status); e != cudaSuccess) return e;
    unsigned long long stream_id = 0;
    if (const cudaError_t e = cudaStreamGetId(stream, &stream_id); e != cudaSuccess) return e;
    if (stream_id == block_.stream_id || status != cudaStreamCaptureStatusNone) return cudaSuccess;
    if (!in_graph_) give_back(block_);
    block_ = {};
    in_graph_ = false;
    *left = true;
    return cudaSuccess;
  }

  // At least `bytes` of the current device, for work on `stream`; what it held is lost where it has to grow, or where it is
  // to be `rewritten` and a graph uses it. While a stream is captured a call whose memory others have gets memory of the
  // graph's own, allocated and freed in it; that of a list must outlive it, and cannot be allocated then:
  // cudaErrorStreamCaptureUnsupported.
  cudaError_t require(size_t bytes, bool rewritten, cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long capture_id = 0;
    if (const cudaError_t e = cudaStreamGetCaptureInfo(stream, &status, &capture_id); e != cudaSuccess) return e;
    const bool capturing = status != cudaStreamCaptureStatusNone;
    if (!capturing) capture_id = 0;
    unsigned long long stream_id = 0;
    if (const cudaError_t e = cudaStreamGetId(stream, &stream_id); e != cudaSuccess) return e;
    block_.stream_id = stream_id;
    if (block_.bytes < bytes || (in_graph_ && rewritten)) {
      Block taken;
      const cudaError_t error = take(bytes, stream_id, capture_id, taken);
      if (error == cudaErrorStreamCaptureUnsupported && of_ == Of::kCall) {
        graph_stream_ = stream;
        return cudaMallocAsync(&of_graph_, bytes, stream);
      }
      if (error != cudaSuccess) return error;
      if (block_.data != nullptr && !in_graph_) give_back(block_);
      block_ = taken;
      in_graph_ = false;
    }
    // A graph uses it for as long as it lives, which nobody tells us: then it is nobody else's ever again.
    in_graph_ = in_graph_ || capturing;
    if (capturing) block_.capture_id = capture_id;
    return cudaSuccess;
  }

  char* data() const { return of_graph_ != nullptr ? static_cast<char*>(of_graph_) : block_.data; }

 private:
  struct Block {
    char* data = nullptr;
    size_t bytes = 0;
    int device = 0;
    unsigned long long stream_id = 0;   // unlike a handle, no other stream's later
    unsigned long long capture_id = 0;  // of the graph whose it is; 0: nobody's
  };
  struct Given {
    std::mutex mutex;
    std::vector<Block> blocks;
  };

  // Outlives whatever gives back at exit.
  static Given& given() {
    static auto* all = new Given;
    return *all;
  }

  static void give_back(const Block& block) {
    Given& g = given();
    const std::lock_guard<std::mutex> lock(g.mutex);
    g.blocks.push_back(block);
  }

  static cudaError_t take(size_t bytes, unsigned long long stream_id, unsigned long long capture_id, Block& taken) {
    int device = 0;
    if (const cudaError_t e = cudaGetDevice(&device); e != cudaSuccess) return e;
    Given& g = given();
    {
      const std::lock_guard<std::mutex> lock(g.mutex);
      size_t best = g.blocks.size();
      for (size_t i = 0; i < g.blocks.size(); ++i) {
        const Block& b = g.blocks[i];
        if (b.device != device || b.stream_id != stream_id || b.bytes < bytes) continue;
        if (b.capture_id != 0 && b.capture_id != capture_id) continue;
        if (best == g.blocks.size() || b.bytes < g.blocks[best].bytes) best = i;
      }
      if (best < g.blocks.size()) {
        taken = g.blocks[best];
        g.blocks.erase(g.blocks.begin() + static_cast<std::ptrdiff_t>(best));
        return cudaSuccess;
      }
    }
    if (capture_id != 0) return cudaErrorStreamCaptureUnsupported;
    // Powers of two, so that what is given back fits others.
    size_t size = 4096;
    while (size < bytes) size *= 2;
    void* data = nullptr;
    if (const cudaError_t e = cudaMalloc(&data, size); e != cudaSuccess) return e;
    taken = {static_cast<char*>(data), size, device, stream_id, 0};
    return cudaSuccess;
  }

  Of of_;
  Block block_;
  void* of_graph_ = nullptr;
  cudaStream_t graph_stream_ = nullptr;
  bool in_graph_ = false;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
