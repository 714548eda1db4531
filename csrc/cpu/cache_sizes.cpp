#include "cpu/cache_sizes.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace fusednn {
namespace {

// Of a level of CPU 0's caches, in bytes; 0 where nobody tells. The kernel's own list comes first: on some processors
// the C library counts the last level once for every thread that shares it.
int64_t cache_size(int level, int sysconf_name) {
  for (int index = 0; index < 8; ++index) {
    char path[96];
    const auto read_number = [&path, index](const char* what) {
      std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
      char text[32] = "";
      if (std::FILE* file = std::fopen(path, "re")) {
        if (std::fgets(text, sizeof text, file) == nullptr) text[0] = '\0';
        std::fclose(file);
      }
      return std::strtol(text, nullptr, 10);
    };
    // The size is written as, for example, 1024K.
    if (read_number("level") == level) return int64_t{read_number("size")} * 1024;
  }
  return sysconf(sysconf_name);
}

int64_t at_least(int64_t size, int64_t least) { return size > least ? size : least; }

}  // namespace

// Half of a level: the rest is for what flows through, and of the last level for other programs too.
int64_t core_cache() {
  static const int64_t bytes = at_least(cache_size(2, _SC_LEVEL2_CACHE_SIZE), 1 << 19) / 2;
  return bytes;
}

int64_t shared_cache() {
  constexpr int64_t kMost = 32 << 20;
  static const int64_t bytes = [] {
    const int64_t half = at_least(cache_size(3, _SC_LEVEL3_CACHE_SIZE) / 2, 2 * core_cache());
    return half < kMost ? half : kMost;
  }();
  return bytes;
}

}  // namespace fusednn
