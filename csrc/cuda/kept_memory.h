// Device memory that a call or a list borrows and gives back: no call but the first of its size waits for an allocation.
#pragma once

#include "cuda/kept_blocks.h"

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
    give_back();
  }

  // For a list that goes on at `place`: whether what another stream wrote may not be there yet, so that it is to be
  // written anew. Then the memory is given up. A capture of another stream's is not asked: whoever captures has waited.
  bool leave_other_streams(const StreamPlace& place) {
    if (block_.data == nullptr || place.id == block_.stream_id || place.capture_id != 0) return false;
    give_back();
    block_ = {};
    return true;
  }

  // At least `bytes` of the current device, for work at `place`; what it held is lost where it has to grow, or where it is
  // to be `rewritten` and a graph uses it. While a stream is captured a call whose memory others have gets memory of the
  // graph's own, allocated and freed in it; that of a list must outlive it, and cannot be allocated then:
  // cudaErrorStreamCaptureUnsupported.
  cudaError_t require(size_t bytes, bool rewritten, const StreamPlace& place) {
    KeptBlocks& blocks = KeptBlocks::all();
    if (block_.bytes < bytes || (rewritten && blocks.in_graph(block_.data))) {
      Block taken;
      const cudaError_t error = blocks.take(bytes, place, taken);
      if (error == cudaErrorStreamCaptureUnsupported && of_ == Of::kCall) {
        graph_stream_ = place.stream;
        return cudaMallocAsync(&of_graph_, bytes, place.stream);
      }
      if (error != cudaSuccess) return error;
      give_back();
      block_ = taken;
    }
    block_.stream_id = place.id;
    if (place.capture_id != 0 && block_.capture_id != place.capture_id) {
      block_.capture_id = place.capture_id;
      blocks.retain(place, block_.data);
    }
    return cudaSuccess;
  }

  char* data() const { return of_graph_ != nullptr ? static_cast<char*>(of_graph_) : block_.data; }

 private:
  void give_back() {
    if (block_.data != nullptr) KeptBlocks::all().give_back(block_, of_ == Of::kCall);
  }

  Of of_;
  Block block_;
  void* of_graph_ = nullptr;
  cudaStream_t graph_stream_ = nullptr;
};

}  // namespace FNN_UNIT
}  // namespace fusednn
