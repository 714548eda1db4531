// Stacks of their own for the threads of a launch, and the switch between them.
#pragma once

#include <stddef.h>

namespace gpusim {

struct Fiber {
  void* stack_pointer = nullptr;  // where it stopped; with ucontext: its context
  char* stack = nullptr;          // null: the system's own stack
  size_t size = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
};

constexpr size_t kStackBytes = 64 * 1024;

// A fiber whose stack is mapped once and never given back; below it lies a page that cannot be touched.
Fiber* create_fiber();

// The next switch to it calls entry(), which must not return.
void arm(Fiber& fiber, void (*entry)());

// Goes on with `to`; returns when another fiber goes on with `from`. `ends`: none ever will.
void switch_fiber(Fiber& from, Fiber& to, bool ends);

// What runs now on the system's own stack, to come back to.
Fiber system_fiber();

}  // namespace gpusim
