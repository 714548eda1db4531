#include "cuda/drivers.h"
#include "cuda/optimizer_update.cuh"

namespace fusednn {
inline namespace FNN_UNIT {

#define FNN_LAUNCH_UPDATE(Optimizer) launch_update<Optimizer, double>,
const LaunchUpdate launch_update_in_double[] = {FNN_OPTIMIZERS(FNN_LAUNCH_UPDATE)};
#undef FNN_LAUNCH_UPDATE

}  // namespace FNN_UNIT
}  // namespace fusednn
