// What a BatchNorm call does to memory, told by the kernels' own headers in a program of its own: the thread pool, the
// caches' sizes and the non-temporal stores are replaced by ones that keep a record.
//
//   batch_norm_passes DIRECTION DTYPE OUTER CHANNELS INNER THREADS CACHE_BYTES SHIFT
//
// DIRECTION is forward, backward or in_place (forward, y being x); DTYPE the number of core/problem.h's; the output
// begins SHIFT bytes after a cache line's start. Prints JSON: for each region that went to the pool its tasks in the
// order of their numbers, each with the elements that it wrote ([first, end), or nothing) and its non-temporal stores,
// as byte ranges of the output in the order of writing; "inline" is what was stored outside of any task.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>

static void record_store(const void* at, int64_t bytes);
// An intrinsic's name within its own replacement is the intrinsic.
#define _mm512_stream_si512(p, v) (record_store(p, 64), _mm512_stream_si512(p, v))
#define _mm256_stream_si256(p, v) (record_store(p, 32), _mm256_stream_si256(p, v))
#define _mm_stream_si128(p, v) (record_store(p, 16), _mm_stream_si128(p, v))
#define _mm_stream_si64(p, v) (record_store(p, 8), _mm_stream_si64(p, v))
#endif

#include "cpu/batch_norm.h"

using namespace fusednn;

namespace {

struct Range {
  int64_t begin, end;
};
struct Record {
  Range written;
  std::vector<Range> stores;
};

std::vector<std::vector<Record>> regions;
Record outside{};
Record* running = &outside;

int threads = 1;
int64_t cache_bytes = 0;
const char* output = nullptr;
int64_t output_bytes = 0;
int64_t element_bytes = 0;

// No result is a number whose bytes are all this.
constexpr char kUntouched = -1;

bool touched(int64_t element) {
  for (int64_t i = 0; i < element_bytes; ++i) {
    if (output[element * element_bytes + i] != kUntouched) return true;
  }
  return false;
}

std::vector<char> seen;

// What was written since the last call.
Range newly_written() {
  Range range{0, 0};
  for (int64_t i = 0; i < output_bytes / element_bytes; ++i) {
    char& known = seen[static_cast<size_t>(i)];
    if (known != 0 || !touched(i)) continue;
    known = 1;
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
  return range;
}

void print_ranges(const Record& task) {
  printf("[");
  for (size_t i = 0; i < task.stores.size(); ++i) {
    const Range r = task.stores[i];
    printf("%s[%lld, %lld]", i == 0 ? "" : ", ", static_cast<long long>(r.begin), static_cast<long long>(r.end));
  }
  printf("]");
}

}  // namespace

#if defined(__x86_64__)
static void record_store(const void* at, int64_t bytes) {
  const int64_t begin = static_cast<const char*>(at) - output;
  std::vector<Range>& stores = running->stores;
  if (!stores.empty() && stores.back().end == begin) {
    stores.back().end += bytes;
  } else {
    stores.push_back({begin, begin + bytes});
  }
}
#endif

namespace fusednn {

int64_t core_cache() { return cache_bytes / 2; }
int64_t shared_cache() { return cache_bytes; }
int threads_of_call() { return threads; }

void* workspace(size_t bytes) {
  static std::vector<char> memory;
  memory.resize(bytes + 64);
  return memory.data() + (-reinterpret_cast<uintptr_t>(memory.data()) & 63);
}

void run_parallel(int64_t count, Task task, const void* context) {
  const bool nested = running != &outside;
  if (!nested) regions.emplace_back(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    if (!nested) running = &regions.back()[static_cast<size_t>(i)];
    task(context, i);
    if (!nested) running->written = newly_written();
  }
  if (!nested) running = &outside;
}

}  // namespace fusednn

int main(int argc, char** argv) {
  if (argc != 9) return 2;
  const bool backward = strcmp(argv[1], "backward") == 0;
  const bool in_place = strcmp(argv[1], "in_place") == 0;
  BatchNorm p{};
  p.dtype = static_cast<DType>(atoi(argv[2]));
  p.outer = atoll(argv[3]);
  p.channels = atoll(argv[4]);
  p.inner = atoll(argv[5]);
  threads = atoi(argv[6]);
  cache_bytes = atoll(argv[7]);
  const int64_t shift = atoll(argv[8]);
  p.row_stride = p.channels * p.inner;
  p.eps = 1e-3;
  p.negative_slope = 0.1;

  const int64_t count = p.outer * p.channels * p.inner;
  element_bytes = with_dtype(p.dtype, [](auto tag) { return static_cast<int64_t>(sizeof tag); });
  output_bytes = count * element_bytes;
  std::vector<char> x(static_cast<size_t>(output_bytes) + 64);
  std::vector<char> y(static_cast<size_t>(output_bytes + shift) + 64, kUntouched);
  char* const written = y.data() + (-reinterpret_cast<uintptr_t>(y.data()) & 63) + shift;
  char* const read = in_place ? written : x.data();
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525U + 1013904223U;
    const double value = static_cast<double>(state >> 8) * 0x1p-24 + 0.25;
    with_dtype(p.dtype, [&](auto tag) {
      using T = decltype(tag);
      store_scalar<T>(read, i, static_cast<Compute<T>>(value));
    });
  }
  std::vector<double> numbers(4 * static_cast<size_t>(p.channels), 0.5);
  p.x = read;
  p.mean = numbers.data();
  p.inv_std = numbers.data() + p.channels;
  p.sum_grad = numbers.data() + 2 * p.channels;
  p.sum_grad_xhat = numbers.data() + 3 * p.channels;
  if (backward) {
    for (double& number : numbers) {
      if (p.dtype == DType::kFloat64) break;
      const float half[] = {0.5F, 0.5F};
      memcpy(&number, half, sizeof number);
    }
    p.grad = p.x;
    p.grad_x = written;
  } else {
    p.y = written;
  }
  output = written;
  seen.assign(static_cast<size_t>(count), 0);

  const bool done = with_geometry(p, [backward](auto tag, const BatchNorm& problem) {
    using Geometry = typename decltype(tag)::type;
    return backward ? backward_with_grad_x<Geometry, FromInput>(problem) : forward<Geometry>(problem);
  });
  if (!done) return 3;

  outside.written = newly_written();
  printf("{\"vector_bytes\": %d, \"inline\": {\"stores\": ", kVectorBytes);
  print_ranges(outside);
  printf(", \"written\": [%lld, %lld]}, \"regions\": [", static_cast<long long>(outside.written.begin),
         static_cast<long long>(outside.written.end));
  for (size_t r = 0; r < regions.size(); ++r) {
    printf("%s[", r == 0 ? "" : ", ");
    for (size_t t = 0; t < regions[r].size(); ++t) {
      const Record& task = regions[r][t];
      printf("%s{\"written\": [%lld, %lld], \"stores\": ", t == 0 ? "" : ", ",
             static_cast<long long>(task.written.begin), static_cast<long long>(task.written.end));
      print_ranges(task);
      printf("}");
    }
    printf("]");
  }
  printf("]}\n");
  return 0;
}
