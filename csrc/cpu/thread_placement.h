// Which CPU a thread runs on.
//
// A thread that was woken on its waker's CPU stays there until the system's next balancing, tens of milliseconds on
// some, while the CPU beside it idles; meanwhile all that the two do together takes turns. The one that notices moves.
#pragma once

namespace fusednn {

// The calling thread's, or -1 where it is not known.
int current_cpu();

// Moves the calling thread to another of the CPUs that it may run on, which stay the same. Does nothing where there
// are fewer of these than `threads` threads that want one each: someone has to share.
void leave_cpu(int cpu, int threads);

}  // namespace fusednn
