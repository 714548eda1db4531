// How long the thread pool's idle workers wait before they sleep.
#pragma once

namespace fusednn {

// For the next 20 ms idle workers spin up to 0.3 ms, not 0.02: more calls follow soon.
void keep_workers_awake();

}  // namespace fusednn
