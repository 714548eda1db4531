// Chooses one of the compiled instruction sets, in order of preference, or the one that FUSEDNN_FORCE_ISA names.
#pragma once

#include <string>

namespace fusednn {

// Empty, or why the choice is impossible.
std::string choose_instruction_set();

const char* instruction_set();
const char* available_instruction_set(int index);  // null past the last

}  // namespace fusednn
