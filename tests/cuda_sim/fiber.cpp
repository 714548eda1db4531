#include "fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "sanitizers.h"

namespace gpusim {
namespace {

// The sanitizers' frames are larger.
constexpr size_t kBytes = kAddressSanitizer || kThreadSanitizer ? 4 * kStackBytes : kStackBytes;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

// Tells the address sanitizer which stack is next, and on the way back that it is this one again.
struct Announced {
  Announced(Fiber& from, const Fiber& to, bool ends) : from_(from) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.stack, to.size);
#else
    static_cast<void>(to);
    static_cast<void>(ends);
#endif
  }
  ~Announced() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from_.fake_stack, nullptr, nullptr);
#endif
  }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;
  Fiber& from_;
};

void (*next_entry)() = nullptr;

void begin() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  next_entry();
  std::abort();
}

}  // namespace

#if defined(__x86_64__)
// Saves what a callee must preserve on the stack, changes the stack, and takes the other's back.
extern "C" __attribute__((visibility("hidden"))) void gpusim_switch_stack(void** save, void* load);
asm(R"(
.pushsection .text
.hidden gpusim_switch_stack
.globl gpusim_switch_stack
.type gpusim_switch_stack, @function
gpusim_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size gpusim_switch_stack, . - gpusim_switch_stack
.popsection
)");
#endif

Fiber* create_fiber() {
  static unsigned count = 0;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* mapped =
      mmap(nullptr, kBytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) give_up("gpusim: mmap of a stack");
  if (mprotect(mapped, page, PROT_NONE) != 0) give_up("gpusim: mprotect of a stack's guard");
  auto* fiber = new Fiber;
  fiber->stack = static_cast<char*>(mapped) + page;
  // Stacks that begin at equal offsets in their pages would share the same few sets of the caches.
  fiber->size = kBytes - static_cast<size_t>(count++ % 16) * 256;
  return fiber;
}

void arm(Fiber& fiber, void (*entry)()) {
  next_entry = entry;
  allow(fiber.stack, fiber.size);
  fiber.fake_stack = nullptr;
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.size);
  *--top = nullptr;  // begin() finds the stack as a call leaves it
  *--top = reinterpret_cast<void*>(begin);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  if (fiber.stack_pointer == nullptr) fiber.stack_pointer = new ucontext_t;
  auto* context = static_cast<ucontext_t*>(fiber.stack_pointer);
  getcontext(context);
  context->uc_stack.ss_sp = fiber.stack;
  context->uc_stack.ss_size = fiber.size;
  context->uc_link = nullptr;
  makecontext(context, begin, 0);
#endif
}

void switch_fiber(Fiber& from, Fiber& to, bool ends) {
  const Announced announced(from, to, ends);
#if defined(__x86_64__)
  gpusim_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  if (from.stack_pointer == nullptr) from.stack_pointer = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.stack_pointer), static_cast<ucontext_t*>(to.stack_pointer));
#endif
}

Fiber system_fiber() {
  Fiber fiber;
#if defined(__SANITIZE_ADDRESS__)
  thread_local char* stack = nullptr;
  thread_local size_t size = 0;
  if (stack == nullptr) {
    pthread_attr_t attributes;
    void* lowest = nullptr;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) give_up("gpusim: pthread_getattr_np");
    pthread_attr_getstack(&attributes, &lowest, &size);
    pthread_attr_destroy(&attributes);
    stack = static_cast<char*>(lowest);
  }
  fiber.stack = stack;
  fiber.size = size;
#endif
  return fiber;
}

}  // namespace gpusim
