// What the sanitizers are told; nothing in builds without them.
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// This code is compiled without the thread sanitizer, kernels with it: the macro is set by the build.
#if defined(GPUSIM_THREAD_SANITIZER)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace gpusim {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
inline void forbid(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void allow(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
constexpr bool kAddressSanitizer = false;
inline void forbid(const void*, size_t) {}
inline void allow(const void*, size_t) {}
#endif

// A thread as the thread sanitizer knows it. What one did is visible to another only over acquire and release of the
// same address.
#if defined(GPUSIM_THREAD_SANITIZER)
constexpr bool kThreadSanitizer = true;
using Clock = void*;
inline Clock current_clock() { return __tsan_get_current_fiber(); }
inline Clock create_clock() { return __tsan_create_fiber(0); }
inline void destroy_clock(Clock c) { __tsan_destroy_fiber(c); }
inline void use_clock(Clock c) { __tsan_switch_to_fiber(c, 1); }
inline void acquire(void* address) { __tsan_acquire(address); }
inline void release(void* address) { __tsan_release(address); }
#else
constexpr bool kThreadSanitizer = false;
using Clock = void*;
inline Clock current_clock() { return nullptr; }
inline Clock create_clock() { return nullptr; }
inline void destroy_clock(Clock) {}
inline void use_clock(Clock) {}
inline void acquire(void*) {}
inline void release(void*) {}
#endif

}  // namespace gpusim
