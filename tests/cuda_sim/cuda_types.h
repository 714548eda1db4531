// CUDA C++'s keywords and vector types, as a C++ compiler may read them.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)

#define GPUSIM_VECTORS(type, element, align2, align4)                                  \
  struct alignas(align2) type##2 { element x, y; };                                    \
  struct type##3 { element x, y, z; };                                                 \
  struct alignas(align4) type##4 { element x, y, z, w; };                              \
  inline type##2 make_##type##2(element x, element y) { return {x, y}; }               \
  inline type##3 make_##type##3(element x, element y, element z) { return {x, y, z}; } \
  inline type##4 make_##type##4(element x, element y, element z, element w) { return {x, y, z, w}; }

GPUSIM_VECTORS(char, signed char, 2, 4)
GPUSIM_VECTORS(uchar, unsigned char, 2, 4)
GPUSIM_VECTORS(short, short, 4, 8)
GPUSIM_VECTORS(ushort, unsigned short, 4, 8)
GPUSIM_VECTORS(int, int, 8, 16)
GPUSIM_VECTORS(uint, unsigned, 8, 16)
GPUSIM_VECTORS(longlong, long long, 16, 16)
GPUSIM_VECTORS(ulonglong, unsigned long long, 16, 16)
GPUSIM_VECTORS(float, float, 8, 16)
GPUSIM_VECTORS(double, double, 16, 16)
#undef GPUSIM_VECTORS

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
