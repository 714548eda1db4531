// What kernels read and write of their arrays, access by access, while a test wants to know: csrc/cuda's functions that
// touch elements of the caller's arrays tell of it, whole vectors and single elements. Sums of leaves, statistics and
// tables, which are small, are not told of.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gpusim {

// As tests read it (simulator.py).
struct Access {
  uint64_t address;
  uint32_t launch;  // of those since the last reset, the first is 1
  uint32_t block;   // its number in the grid
  uint32_t bytes;
  uint32_t writes;  // 0 or 1
};

__attribute__((visibility("hidden"))) extern bool traced;
__attribute__((visibility("hidden"))) void note_access(const void* p, size_t bytes, bool writes);

inline void note_read(const void* p, size_t bytes) {
  if (traced) note_access(p, bytes, false);
}
inline void note_write(const void* p, size_t bytes) {
  if (traced) note_access(p, bytes, true);
}

}  // namespace gpusim
