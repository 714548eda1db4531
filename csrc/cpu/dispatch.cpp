#include "cpu/dispatch.h"

#include <cstdlib>
#include <cstring>

#include "core/backend.h"

namespace fusednn {

// One per instruction set, each defined in its own object (cpu/units/).
#if defined(__x86_64__)
namespace x86_64_v4 {
extern const Backend backend;
}
namespace x86_64_v3 {
extern const Backend backend;
}
namespace x86_64_v2 {
extern const Backend backend;
}
namespace baseline {
extern const Backend backend;
}
#elif defined(__aarch64__)
namespace neon {
extern const Backend backend;
}
#else
namespace baseline {
extern const Backend backend;
}
#endif

namespace {

struct Unit {
  const Backend& backend;
  bool (*runs_here)();
};

// The best first.
const Unit units[] = {
#if defined(__x86_64__)
    {x86_64_v4::backend, [] { return __builtin_cpu_supports("x86-64-v4") != 0; }},
    {x86_64_v3::backend, [] { return __builtin_cpu_supports("x86-64-v3") != 0; }},
    {x86_64_v2::backend, [] { return __builtin_cpu_supports("x86-64-v2") != 0; }},
    {baseline::backend, [] { return true; }},
#elif defined(__aarch64__)
    {neon::backend, [] { return true; }},
#else
    {baseline::backend, [] { return true; }},
#endif
};

const Backend* chosen = nullptr;

}  // namespace

const char* available_instruction_set(int index) {
  for (const Unit& unit : units) {
    if (unit.runs_here() && index-- == 0) return unit.backend.name;
  }
  return nullptr;
}

std::string choose_instruction_set() {
  const char* forced = std::getenv("FUSEDNN_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (const Unit& unit : units) {
      if (unit.runs_here()) {
        chosen = &unit.backend;
        return {};
      }
    }
  }
  std::string known;
  for (const Unit& unit : units) {
    if (std::strcmp(unit.backend.name, forced) == 0) {
      if (unit.runs_here()) {
        chosen = &unit.backend;
        return {};
      }
      return std::string(
                 "`FUSEDNN_FORCE_ISA` names an instruction set that this machine lacks. Received: FUSEDNN_FORCE_ISA=") +
             forced;
    }
    known += known.empty() ? unit.backend.name : std::string(", ") + unit.backend.name;
  }
  return "`FUSEDNN_FORCE_ISA` must be one of " + known + ". Received: FUSEDNN_FORCE_ISA=" + forced;
}

const char* instruction_set() { return chosen->name; }

const Backend& cpu_backend() { return *chosen; }

}  // namespace fusednn
