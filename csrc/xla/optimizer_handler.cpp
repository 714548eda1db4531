// XLA's decoding of the calls, compiled for size; the lists are gone through in optimizer.cpp, compiled for speed.
#include "xla/optimizer.h"

namespace fusednn::handlers {

FNN_XLA_HANDLERS(optimizer_step);

}  // namespace fusednn::handlers
