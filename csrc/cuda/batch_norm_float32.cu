#include "cuda/batch_norm.cuh"

namespace fusednn {
inline namespace FNN_UNIT {
const BatchNormFunctions batch_norm_float32 = BatchNormOf<float>::functions;
}  // namespace FNN_UNIT
}  // namespace fusednn
