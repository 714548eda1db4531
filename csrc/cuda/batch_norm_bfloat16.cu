#include "cuda/batch_norm.cuh"

namespace fusednn {
inline namespace FNN_UNIT {
const BatchNormFunctions batch_norm_bfloat16 = BatchNormOf<BFloat16>::functions;
}  // namespace FNN_UNIT
}  // namespace fusednn
