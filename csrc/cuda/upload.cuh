// Tables from the host to the device, in the parameters of a kernel: they need no pinned memory that must stay until a copy
// is done, are in order with the stream's work, and become part of a graph that is captured. Kernels have 32,764 bytes of
// parameters from CUDA 12.1 on.
#pragma once

#include <string.h>

#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

constexpr size_t kSmallPacket = 2048, kLargePacket = 32000;
constexpr int kUploadThreads = 256;

template <size_t kBytes>
struct Packet {
  Bytes16 data[kBytes / sizeof(Bytes16)];
};

template <size_t kBytes>
FNN_KERNEL(kUploadThreads, 1)
upload_packet(const __grid_constant__ Packet<kBytes> packet, Bytes16* to, int count) {
  for (int i = threadIdx.x; i < count; i += kUploadThreads) to[i] = packet.data[i];
}

template <size_t kBytes>
cudaError_t upload_one(char* to, const char* from, size_t bytes, cudaStream_t stream) {
  Packet<kBytes> packet;
  memcpy(packet.data, from, bytes);
  LaunchShape shape;
  shape.block = dim3(kUploadThreads);
  return launch(upload_packet<kBytes>, shape, stream, packet, reinterpret_cast<Bytes16*>(to),
                static_cast<int>(bytes / sizeof(Bytes16)));
}

// `bytes` is a multiple of 16, `to` aligned to 16 bytes.
inline cudaError_t upload(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  auto* target = static_cast<char*>(to);
  const auto* source = static_cast<const char*>(from);
  while (bytes > 0) {
    const size_t part = bytes < kLargePacket ? bytes : kLargePacket;
    const cudaError_t e = part <= kSmallPacket ? upload_one<kSmallPacket>(target, source, part, stream)
                                               : upload_one<kLargePacket>(target, source, part, stream);
    if (e != cudaSuccess) return e;
    target += part;
    source += part;
    bytes -= part;
  }
  return cudaSuccess;
}

}  // namespace FNN_UNIT
}  // namespace fusednn
