// What backend.cu calls of the other .cu files: from a checked problem to launches on a stream of the current device.
// None waits for the device, except where it says so.
#pragma once

#include "core/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/launch.h"

namespace fusednn {
inline namespace FNN_UNIT {

cudaError_t leaky_relu(const LeakyRelu& p, cudaStream_t stream);
cudaError_t stream_pass(const StreamPass& p, cudaStream_t stream);

// What the list leaves on the device from step to step is kept in *list, made where that is null.
cudaError_t optimizer_step(const OptimizerStep& p, const fnn_device_scalars& scalars, cudaStream_t stream,
                           CudaOptimizerList** list);
void optimizer_list_destroy(CudaOptimizerList* list);

// Waits for the stream: `p.sums` are the host's.
cudaError_t squared_norms(const SquaredNorms& p, cudaStream_t stream);

cudaError_t batch_norm(BatchNormFunction BatchNormFunctions::* function, const BatchNorm& p, const CudaPlace& place);
cudaError_t merge_statistics(const MergedStatistics& p, const CudaPlace& place);

// The update of each optimizer, by its number in FNN_OPTIMIZERS.
struct UpdateArguments;
using LaunchUpdate = cudaError_t (*)(const UpdateArguments&, int multiprocessors, cudaStream_t);
extern const LaunchUpdate launch_update_in_float[];
extern const LaunchUpdate launch_update_in_double[];

}  // namespace FNN_UNIT
}  // namespace fusednn
