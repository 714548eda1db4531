// What CUDA C++ gives to device code, by its own names. Included by gpusim.h.
#pragma once

#define threadIdx (static_cast<const uint3&>(gpusim::here.thread))
#define blockIdx (static_cast<const uint3&>(gpusim::here.block))
#define blockDim (static_cast<const dim3&>(gpusim::here.block_size))
#define gridDim (static_cast<const dim3&>(gpusim::here.grid_size))
constexpr int warpSize = 32;

// What the compiler may take for granted must be true.
#define __builtin_assume(condition) gpusim::assume(condition, "__builtin_assume(" #condition ") does not hold")
#define __isGlobal(p) (!gpusim::is_shared(p))
#define __isShared(p) (gpusim::is_shared(p))

// ---- Barriers ----
#define GPUSIM_SITE gpusim::Site site = gpusim::Site::current()

inline void __syncthreads(GPUSIM_SITE) { gpusim::block_barrier(false, "__syncthreads", site); }
inline int __syncthreads_count(int predicate, GPUSIM_SITE) {
  return gpusim::block_barrier(predicate != 0, "__syncthreads_count", site).count;
}
inline int __syncthreads_or(int predicate, GPUSIM_SITE) {
  return gpusim::block_barrier(predicate != 0, "__syncthreads_or", site).count > 0;
}
inline int __syncthreads_and(int predicate, GPUSIM_SITE) {
  const gpusim::Votes votes = gpusim::block_barrier(predicate != 0, "__syncthreads_and", site);
  return votes.count == votes.threads;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, GPUSIM_SITE) {
  gpusim::warp_collective(gpusim::Collective::sync, mask, 0, 0, "__syncwarp", site);
}
inline void __threadfence_block() { gpusim::fence(); }
inline void __threadfence() { gpusim::fence(); }

// ---- Warps ----
inline unsigned __ballot_sync(unsigned mask, int predicate, GPUSIM_SITE) {
  return static_cast<unsigned>(
      gpusim::warp_collective(gpusim::Collective::vote, mask, predicate != 0, 0, "__ballot_sync", site));
}
inline int __any_sync(unsigned mask, int predicate, GPUSIM_SITE) {
  return gpusim::warp_collective(gpusim::Collective::vote, mask, predicate != 0, 0, "__any_sync", site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, GPUSIM_SITE) {
  return gpusim::warp_collective(gpusim::Collective::vote, mask, predicate != 0, 0, "__all_sync", site) == mask;
}

// Within segments of `width` lanes; a lane whose source lies outside of its segment keeps its own value.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, GPUSIM_SITE) {
  const int l = gpusim::lane(), first = l & ~(width - 1);
  return gpusim::shuffle(mask, value, first + (source & (width - 1)), "__shfl_sync", site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUSIM_SITE) {
  const int l = gpusim::lane(), end = (l & ~(width - 1)) + width, from = l + static_cast<int>(delta);
  return gpusim::shuffle(mask, value, from < end ? from : l, "__shfl_down_sync", site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUSIM_SITE) {
  const int l = gpusim::lane(), first = l & ~(width - 1), from = l - static_cast<int>(delta);
  return gpusim::shuffle(mask, value, from >= first ? from : l, "__shfl_up_sync", site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, GPUSIM_SITE) {
  const int l = gpusim::lane(), end = (l & ~(width - 1)) + width, from = l ^ lane_mask;
  return gpusim::shuffle(mask, value, from < end ? from : l, "__shfl_xor_sync", site);
}

// ---- Atomics: integers only. Those of floats would make sums depend on the order of threads. ----
namespace gpusim {
template <class T>
concept Atomic = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;

template <Atomic T, class Change>
T atomic_change(T* p, Change change, Site site) {
  may_switch(site);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, change(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
}  // namespace gpusim

template <gpusim::Atomic T>
T atomicAdd(T* p, std::type_identity_t<T> v, GPUSIM_SITE) {
  gpusim::may_switch(site);
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
template <gpusim::Atomic T>
T atomicExch(T* p, std::type_identity_t<T> v, GPUSIM_SITE) {
  gpusim::may_switch(site);
  return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}
template <gpusim::Atomic T>
T atomicOr(T* p, std::type_identity_t<T> v, GPUSIM_SITE) {
  gpusim::may_switch(site);
  return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
template <gpusim::Atomic T>
T atomicMax(T* p, std::type_identity_t<T> v, GPUSIM_SITE) {
  return gpusim::atomic_change(p, [=](T old) { return old < v ? v : old; }, site);
}
template <gpusim::Atomic T>
T atomicMin(T* p, std::type_identity_t<T> v, GPUSIM_SITE) {
  return gpusim::atomic_change(p, [=](T old) { return v < old ? v : old; }, site);
}
template <gpusim::Atomic T>
T atomicCAS(T* p, std::type_identity_t<T> compare, std::type_identity_t<T> v, GPUSIM_SITE) {
  return gpusim::atomic_change(p, [=](T old) { return old == compare ? v : old; }, site);
}
#undef GPUSIM_SITE

// ---- Bits and arithmetic ----
namespace gpusim {
template <class To, class From>
To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &value, sizeof to);
  return to;
}
}  // namespace gpusim

inline unsigned __float_as_uint(float x) { return gpusim::bits_as<unsigned>(x); }
inline int __float_as_int(float x) { return gpusim::bits_as<int>(x); }
inline float __uint_as_float(unsigned x) { return gpusim::bits_as<float>(x); }
inline float __int_as_float(int x) { return gpusim::bits_as<float>(x); }
inline long long __double_as_longlong(double x) { return gpusim::bits_as<long long>(x); }
inline double __longlong_as_double(long long x) { return gpusim::bits_as<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>((Wide{a} * b) >> 64);
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }

#define GPUSIM_MIN_MAX(type)                                \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
GPUSIM_MIN_MAX(int)
GPUSIM_MIN_MAX(unsigned)
GPUSIM_MIN_MAX(long)
GPUSIM_MIN_MAX(unsigned long)
GPUSIM_MIN_MAX(long long)
GPUSIM_MIN_MAX(unsigned long long)
#undef GPUSIM_MIN_MAX
// Of floats, CUDA's own ignore a NaN.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// The caches' hints change nothing here.
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  gpusim::note_read(p, sizeof(T));
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  gpusim::note_read(p, sizeof(T));
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  gpusim::note_write(p, sizeof(T));
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  gpusim::note_write(p, sizeof(T));
  *p = value;
}
