// How much that was just read the caches still hold.
#pragma once

#include <stdint.h>

namespace fusednn {

// Bytes: of one core's own cache, and of the one that cores share.
int64_t core_cache();
int64_t shared_cache();

}  // namespace fusednn
