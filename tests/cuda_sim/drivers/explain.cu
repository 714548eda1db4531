// What a failure is explained with, whatever the device is like by then (test_cuda_errors.py).
#include "cuda/explain.h"

using namespace fusednn;

extern "C" __attribute__((visibility("default"))) void simulated_explanation(int error, int device, char* text,
                                                                             size_t size) {
  explain(static_cast<cudaError_t>(error), device, text, size);
}
