// What a Python program lends to calls on GPUs, and leaves to others there: `fusednn.cuda_settings`.
#pragma once

#include <pybind11/pybind11.h>

#include "fusednn/fusednn.h"

namespace fusednn {

// Adds what the current context has chosen, for a call with this array. The settings are good until the thread's next.
void add_chosen_settings(pybind11::handle array, fnn_cuda_settings& settings);

// MemoryError with the library's message, from the allocator's exception if it was one that failed.
[[noreturn]] void throw_memory_error();

void register_cuda_settings(pybind11::module_& m);

}  // namespace fusednn
