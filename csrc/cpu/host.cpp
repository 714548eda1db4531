#include "cpu/host.h"

namespace fusednn {
namespace {

thread_local Host* current = nullptr;

}  // namespace

Host* host() { return current; }
void set_host(Host* host) { current = host; }

}  // namespace fusednn
