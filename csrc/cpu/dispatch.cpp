#include "cpu/dispatch.h"

#include <cstdlib>
#include <cstring>

#include "core/backend.h"
#include "fusednn_units.h"

namespace fusednn {

// One per instruction set, each defined in its own object (cpu/units/). FNN_UNITS lists those built, the best first.
#define FNN_DECLARE(unit)       \
  namespace unit {              \
  extern const Backend backend; \
  }
FNN_UNITS(FNN_DECLARE)
#undef FNN_DECLARE

namespace {

#define FNN_ADDRESS(unit) &unit::backend,
const Backend* const units[] = {FNN_UNITS(FNN_ADDRESS)};
#undef FNN_ADDRESS

bool runs_here(const Backend& unit) {
#if defined(__x86_64__)
  if (std::strcmp(unit.name, "x86-64-v4") == 0) return __builtin_cpu_supports("x86-64-v4") != 0;
  if (std::strcmp(unit.name, "x86-64-v3") == 0) return __builtin_cpu_supports("x86-64-v3") != 0;
  if (std::strcmp(unit.name, "x86-64-v2") == 0) return __builtin_cpu_supports("x86-64-v2") != 0;
#else
  (void)unit;
#endif
  return true;
}

const Backend* chosen = nullptr;

}  // namespace

const char* available_instruction_set(int index) {
  for (const Backend* unit : units) {
    if (runs_here(*unit) && index-- == 0) return unit->name;
  }
  return nullptr;
}

std::string choose_instruction_set() {
  const char* variable = std::getenv("FUSEDNN_FORCE_ISA");
  const std::string forced = variable == nullptr ? "" : variable;
  const bool any = forced.empty();
  std::string known;
  for (const Backend* unit : units) {
    if (any ? runs_here(*unit) : forced == unit->name) {
      if (!runs_here(*unit)) {
        return "`FUSEDNN_FORCE_ISA` must name an instruction set that this machine has. Received: FUSEDNN_FORCE_ISA=" +
               forced;
      }
      chosen = unit;
      return {};
    }
    known += known.empty() ? unit->name : std::string(", ") + unit->name;
  }
  if (any) return "this machine runs none of the instruction sets of this build: " + known;
  return "`FUSEDNN_FORCE_ISA` must be one of " + known + ". Received: FUSEDNN_FORCE_ISA=" + forced;
}

const char* instruction_set() { return chosen->name; }

const Backend& cpu_backend() { return *chosen; }

}  // namespace fusednn
