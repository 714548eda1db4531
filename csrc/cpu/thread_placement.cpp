#include "cpu/thread_placement.h"

#include <sched.h>

namespace fusednn {

int current_cpu() { return sched_getcpu(); }

void leave_cpu(int cpu, int threads) {
  cpu_set_t allowed;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  if (CPU_COUNT(&allowed) < 2 || CPU_COUNT(&allowed) < threads) return;
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  // The first call moves the thread at once; after the second it may come back, but nothing drives it to.
  if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
}

}  // namespace fusednn
