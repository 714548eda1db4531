// The rest of the runtime API: errors, devices, streams and events. There is one order of work for all streams
// (stream_work.h), so streams and events are only names.
#include "runtime.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <utility>

#include "state.h"
#include "stream_work.h"

struct GpusimStream {
  unsigned long long id;
};
struct GpusimEvent {
  const void* stream = nullptr;  // that it was recorded on last
};

using namespace gpusim;

namespace {

cudaError_t ready() {
  if (settings.driver < CUDART_VERSION) return noted(cudaErrorInsufficientDriver);
  return settings.devices == 0 ? noted(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t wait_for_device() {
  if (is_capturing()) return noted(cudaErrorStreamCaptureUnsupported);
  ++counts.synchronisations;
  return noted(do_pending());
}

constexpr size_t kMemory = size_t{1} << 34;
constexpr int kThreadsPerMultiprocessor = 2048, kReservedShared = 1024;

}  // namespace

namespace gpusim {

cudaError_t resident_blocks(int* blocks, int threads, size_t shared_bytes) {
  if (threads < 1 || threads > 1024) return noted(cudaErrorInvalidValue);
  int64_t most = std::min(settings.blocks_per_multiprocessor, kThreadsPerMultiprocessor / ((threads + 31) / 32 * 32));
  most = std::min(most, static_cast<int64_t>(settings.shared_per_multiprocessor / (shared_bytes + kReservedShared)));
  *blocks = static_cast<int>(most);
  return cudaSuccess;
}

cudaError_t set_shared_limit(const void* kernel, cudaFuncAttribute attribute, int value) {
  const bool valid = kernel != nullptr && attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value >= 0 &&
                     static_cast<size_t>(value) <= settings.shared_per_block;
  return valid ? cudaSuccess : noted(cudaErrorInvalidValue);
}

}  // namespace gpusim

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define X(name, value, text) \
  case name: return #name;
    GPUSIM_ERRORS(X)
#undef X
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  // Where the simulator has more to say it does; the text lives until the next failure.
  static std::string said;
  const char* plain = "unrecognized error code";
  switch (error) {
#define X(name, value, text) \
  case name: plain = text; break;
    GPUSIM_ERRORS(X)
#undef X
  }
  if (report.empty() || (error != cudaErrorLaunchFailure && error != cudaErrorIllegalAddress)) return plain;
  said = report;
  return said.c_str();
}

cudaError_t cudaPeekAtLastError() { return last_error; }
cudaError_t cudaGetLastError() {
  const cudaError_t e = last_error;
  last_error = cudaSuccess;
  return e;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings.driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  const cudaError_t e = ready();
  if (e == cudaSuccess) *count = settings.devices;
  return e;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return ready();
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t e = ready(); e != cudaSuccess) return e;
  if (device < 0 || device >= settings.devices) return noted(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (const cudaError_t e = ready(); e != cudaSuccess) return e;
  if (device < 0 || device >= settings.devices) return noted(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:          *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock:     *value = 48 * 1024; break;
    case cudaDevAttrMultiProcessorCount:         *value = settings.multiprocessors; break;
    case cudaDevAttrL2CacheSize:                 *value = static_cast<int>(settings.l2_bytes); break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = kThreadsPerMultiprocessor; break;
    case cudaDevAttrComputeCapabilityMajor:      *value = settings.capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor:      *value = settings.capability % 10; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(settings.shared_per_multiprocessor);
      break;
    case cudaDevAttrCooperativeLaunch:            *value = settings.cooperative ? 1 : 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(settings.shared_per_block); break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:   *value = settings.blocks_per_multiprocessor; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = kReservedShared; break;
    case cudaDevAttrMemoryPoolsSupported:         *value = 1; break;
    default:                                      return noted(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t e = ready(); e != cudaSuccess) return e;
  if (device < 0 || device >= settings.devices) return noted(cudaErrorInvalidDevice);
  *properties = {};
  snprintf(properties->name, sizeof properties->name, "fusednn's simulator");
  properties->totalGlobalMem = kMemory;
  properties->major = settings.capability / 10;
  properties->minor = settings.capability % 10;
  properties->multiProcessorCount = settings.multiprocessors;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return wait_for_device(); }
// Nothing is told of what is in use.
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const cudaError_t e = ready();
  *free = *total = e == cudaSuccess ? kMemory : 0;
  return e;
}

// Numbers that no other stream ever has; each thread has a stream of its own behind the handle of that name.
static unsigned long long next_stream_id() {
  static std::atomic<unsigned long long> last{1};
  return ++last;
}
cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  thread_local const unsigned long long of_thread = next_stream_id();
  *id = stream == nullptr || stream == cudaStreamLegacy ? 1 : stream == cudaStreamPerThread ? of_thread : stream->id;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new GpusimStream{next_stream_id()};
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return wait_for_device(); }
cudaError_t cudaStreamQuery(cudaStream_t) { return is_pending() ? cudaErrorNotReady : cudaSuccess; }
// All streams share one order; who was to wait for whom is noted.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard<std::mutex> lock(device_mutex);
  waits.push_back({stream, event->stream});
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const bool outside = stream != nullptr && stream == settings.outside_capture;
  *status = is_capturing() && !outside ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph) {
  *id = is_capturing() ? captures() : 0;
  if (graph != nullptr) *graph = is_capturing() ? captured_graph() : nullptr;
  return cudaStreamIsCapturing(stream, status);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void* data, cudaHostFn_t destructor, unsigned references,
                                 unsigned flags) {
  if (references != 1 || flags != cudaUserObjectNoDestructorSync) return noted(cudaErrorInvalidValue);
  *object = new GpusimUserObject{std::shared_ptr<void>(data, destructor)};
  return cudaSuccess;
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned references, unsigned flags) {
  if (graph == nullptr || references != 1 || flags != cudaGraphUserObjectMove) return noted(cudaErrorInvalidValue);
  graph->owned.push_back(std::move(object->object));
  delete object;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new GpusimEvent{};
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->stream = stream;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return wait_for_device(); }
cudaError_t cudaEventQuery(cudaEvent_t) { return is_pending() ? cudaErrorNotReady : cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}
