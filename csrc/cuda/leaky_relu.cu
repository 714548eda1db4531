#include "cuda/leaky_relu.cuh"

#include "cuda/drivers.h"

namespace fusednn {
inline namespace FNN_UNIT {

cudaError_t leaky_relu(const LeakyRelu& p, cudaStream_t stream) {
  switch (p.dtype) {
    case DType::kFloat64:  return leaky_relu_of<double>(p, stream);
    case DType::kFloat16:  return leaky_relu_of<Float16>(p, stream);
    case DType::kBFloat16: return leaky_relu_of<BFloat16>(p, stream);
    case DType::kFloat32:  break;
  }
  return leaky_relu_of<float>(p, stream);
}

}  // namespace FNN_UNIT
}  // namespace fusednn
