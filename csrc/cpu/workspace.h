// Scratch memory of a call: kept by the calling thread and grown when needed, so that a training step allocates nothing
// after its first round. Calls do not nest.
#pragma once

#include <stddef.h>

namespace fusednn {

// `bytes` of 64-byte aligned memory, valid until this thread asks again; null where there is none.
void* workspace(size_t bytes);

}  // namespace fusednn
